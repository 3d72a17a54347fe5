//! A whole node on a real disk, spoken to over TCP with the reference encoder and decoder.

mod admin;
mod bad_input;
mod client;
mod decoding;
mod decoding_groups;
mod delete_records;
mod durability;
mod groups;
mod login;
mod records;
