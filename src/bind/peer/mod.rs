//! Peers: `client`, `server` and what both ends share (`link`), the `meeting` of a tree, and what `launch` knows of the
//! nodes that ipcrun started.

pub mod client;
pub mod launch;
pub mod link;
pub mod meeting;
pub mod server;
