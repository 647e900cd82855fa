//! pglog: container logs that never block and never lose a line.
