//! Real processes: a starter with its worker in a folder of its own, no root needed.

mod harness;
mod lifecycle;
mod privileges;
mod upgrade;
