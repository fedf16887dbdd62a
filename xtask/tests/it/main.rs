//! What is around the tasks.

mod ci;
