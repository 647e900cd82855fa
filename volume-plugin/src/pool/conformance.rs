//! One suite over every pool.
