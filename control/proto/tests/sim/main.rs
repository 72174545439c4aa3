//! An LMA and two MAGs against each other on a virtual clock.

mod losses;
mod model;
mod scenarios;
mod schedules;
mod statuses;
mod world;
