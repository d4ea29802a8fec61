//! Programs as text, both ways.
