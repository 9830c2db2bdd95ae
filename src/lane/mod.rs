//! How a tensor's bytes get across.
