//! A whole node on a real disk, spoken to over TCP with the reference encoder and decoder.

mod admin;
mod alter_configs;
mod bad_input;
mod client;
mod cluster_admin;
mod decoding;
mod decoding_groups;
mod delete_records;
mod durability;
mod group_errors;
mod groups;
mod leader_epochs;
mod login;
mod member;
mod producers;
mod records;
