//! Who talks to whom: server, client, handshake. This file puts the parts together:
//!
//! `options` what a user may ask of a link · `hello` what two ends say to each other first · `choose` the link that they
//! come to · `rendezvous` where two threads of one process take their ends of one in memory · `dial` connecting ·
//! `server` the clients of one listener · `acceptor` the background half of it, which shakes hands · `socket_file` the
//! file of a Unix socket · `runtime` the thread for that · `log` what `IPC_LOG` tells of it · `meeting` where the nodes
//! of a tree on one host find each other.

mod acceptor;
mod choose;
mod cookie;
mod dial;
mod hello;
mod log;
pub mod meeting;
mod options;
mod rendezvous;
mod runtime;
mod server;
mod socket_file;
#[cfg(test)]
mod tests;

pub use dial::dial;
#[cfg(feature = "fuzzing")]
pub use hello::fuzz_hello;
pub use options::{Options, ServerAddress, TransportChoice};
pub use server::{Arrival, Broadcast, Client, Server, ServerStats, Tag};
