//! An LMA and two MAGs against each other on a virtual clock.

mod model;
mod scenarios;
mod losses;
mod schedules;
mod statuses;
mod world;
