//! pgvol: PostgreSQL-aware Docker volumes.
