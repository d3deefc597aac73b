//! What benches need that are about more than one module: a PostgreSQL that costs almost nothing, and a pool of
//! backends on it.

pub(crate) mod house;
pub(crate) mod postgres;
