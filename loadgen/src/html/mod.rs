//! Reports to look at: one HTML file each, with its plots inside, that needs nothing else.
//!
//! Rooms: [`page`] what a page is made of, [`chart`] plots, [`timeline`] figures over time;
//! [`produce`], [`demo`] and [`compare`] the pages. Invariant: a page shows the figures of a
//! report that was made before, and measures nothing.

pub mod chart;
pub mod compare;
pub mod demo;
pub mod page;
pub mod produce;
pub mod timeline;
