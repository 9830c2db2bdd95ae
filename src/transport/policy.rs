//! What the two ends of a connection agreed on before its first message.

use crate::err;
use crate::error::Result;
use crate::tensor::DType;
use crate::wire::{Attachment, Message};

/// How much one end takes in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Message bytes, the data of tensors not counted.
    pub message: u64,
    /// Bytes of the data of tensors and storages, together.
    pub tensor_bytes: u64,
    /// Tensors and storages.
    pub tensors: u32,
}

impl Limits {
    /// How many tensors and storages a message may have.
    pub const TENSORS: u32 = 65_536;
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message: 1 << 30, tensor_bytes: u64::MAX, tensors: Limits::TENSORS }
    }
}

/// What the two ends agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What is taken here.
    pub takes: Limits,
    /// What the peer takes.
    pub peer_takes: Limits,
    /// The element types that the peer knows: bit n for the code n.
    pub peer_dtypes: u64,
    /// Whether functions may travel.
    pub functions: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            takes: Limits::default(),
            peer_takes: Limits::default(),
            peer_dtypes: Policy::dtypes(),
            functions: false,
        }
    }
}

impl Policy {
    /// The element types that this end knows, as in [`Policy::peer_dtypes`].
    pub fn dtypes() -> u64 {
        DType::ALL.iter().fold(0, |mask, dtype| mask | 1 << dtype.code())
    }

    /// Refuses a message that the peer would not take, before a byte of it has moved.
    pub(super) fn refuse(&self, message: &Message, peer: &str) -> Result<()> {
        if message.functions && !self.functions {
            return Err(err!(
                Unsupported,
                "a function, in bytecode or by name, goes to a peer only where both ends ask for it (functions = \
                 true): it is code"
            ));
        }
        let limits = &self.peer_takes;
        if message.bytes.len() as u64 > limits.message {
            return Err(err!(
                Limit,
                "a message of {} bytes is more than {peer} takes ({}; max_message =)",
                message.bytes.len(),
                limits.message
            ));
        }
        if message.attachments.is_empty() { Ok(()) } else { self.refuse_tensors(&message.attachments, peer) }
    }

    fn refuse_tensors(&self, attachments: &[Attachment], peer: &str) -> Result<()> {
        let limits = &self.peer_takes;
        if attachments.len() > limits.tensors as usize {
            return Err(err!(
                Limit,
                "a message of {} tensors is more than {peer} takes ({})",
                attachments.len(),
                limits.tensors
            ));
        }
        let mut sum = 0u64;
        for attachment in attachments {
            let (dtype, len) = match attachment {
                Attachment::Tensor(t) => (t.dtype(), t.numel()),
                Attachment::Storage(s) => (s.dtype(), s.len()),
                Attachment::Object(_) | Attachment::Foreign(_) => continue,
            };
            if self.peer_dtypes & 1 << dtype.code() == 0 {
                return Err(err!(Unsupported, "{peer} does not know tensors of type {}", dtype.name()));
            }
            sum = sum.saturating_add(len as u64 * dtype.size() as u64);
        }
        if sum > limits.tensor_bytes {
            return Err(err!(
                Limit,
                "tensors of {sum} bytes in a message are more than {peer} takes ({}; max_tensor_bytes =)",
                limits.tensor_bytes
            ));
        }
        Ok(())
    }
}
