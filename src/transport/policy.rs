//! What the two ends of a connection agreed on before its first message.

use crate::err;
use crate::error::Result;
use crate::tensor::{DType, Storage};
use crate::wire::{Attachment, Message, path_to};

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
    /// `tensor_bytes` is how large its tensors are, as the data that goes and as what they show; `link` is what carries
    /// it.
    pub(super) fn refuse(&self, message: &Message, tensor_bytes: (u64, u64), peer: &str, link: Carries) -> Result<()> {
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
        if message.attachments.is_empty() {
            return Ok(());
        }
        if message.share {
            refuse_unshared(message, peer, link)?;
        }
        self.refuse_tensors(&message.attachments, tensor_bytes.0.max(tensor_bytes.1), peer)
    }

    fn refuse_tensors(&self, attachments: &[Attachment], bytes: u64, peer: &str) -> Result<()> {
        let limits = &self.peer_takes;
        if attachments.len() > limits.tensors as usize {
            return Err(err!(
                Limit,
                "a message of {} tensors is more than {peer} takes ({})",
                attachments.len(),
                limits.tensors
            ));
        }
        for attachment in attachments {
            let dtype = match attachment {
                Attachment::Tensor(t) => t.dtype(),
                Attachment::Storage(s) => s.dtype(),
                Attachment::Object(_) | Attachment::Foreign(_) => continue,
            };
            if self.peer_dtypes & 1 << dtype.code() == 0 {
                return Err(err!(Unsupported, "{peer} does not know tensors of type {}", dtype.name()));
            }
        }
        if bytes > limits.tensor_bytes {
            return Err(err!(
                Limit,
                "tensors of {bytes} bytes in a message are more than {peer} takes ({}; max_tensor_bytes =)",
                limits.tensor_bytes
            ));
        }
        Ok(())
    }
}

/// How a link takes tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// Their data alone.
    Copies,
    /// Shared memory by reference, too.
    References,
}

/// Refuses what cannot go by reference, as it was asked to.
fn refuse_unshared(message: &Message, peer: &str, link: Carries) -> Result<()> {
    if link == Carries::Copies {
        return Err(err!(
            Unsupported,
            "tensors cannot go to {peer} by reference (share = true): a socket carries copies; transport = 'memory' \
             between threads of one process carries references"
        ));
    }
    for (i, attachment) in message.attachments.iter().enumerate() {
        let shared = match attachment {
            Attachment::Tensor(t) => t.storage().is_none_or(Storage::is_shared),
            Attachment::Storage(s) => s.is_shared(),
            Attachment::Object(_) | Attachment::Foreign(_) => true,
        };
        if !shared {
            return Err(err!(
                Unsupported,
                "{}: {} that does not lie in shared memory, and share = true copies nothing: move it there with t:share()",
                path_to(&message.bytes, i as u32),
                attachment.kind()
            ));
        }
    }
    Ok(())
}
