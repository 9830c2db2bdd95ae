//! Storages read from files of plain elements.

use std::fs::File;
use std::io::{ErrorKind, Read};

use crate::err;
use crate::error::{Error, Result};
use crate::tensor::data::dtype::DType;
use crate::tensor::data::storage::Storage;
use crate::text;

impl Storage {
    /// The elements that are in a file as they lie in memory: all that it has, or the first `size`.
    pub fn from_file(path: &str, dtype: DType, size: Option<usize>) -> Result<Storage> {
        let failed = |e| Error::io("", &text!("read {path}"), &e);
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let there = usize::try_from(bytes).unwrap_or(usize::MAX) / dtype.size();
        let len = size.unwrap_or(there);
        if len > there {
            return Err(err!(Argument, "{path} has {there} elements of a {}, not {len}", dtype.storage_class()));
        }
        let storage = Storage::new(dtype, len)?;
        let span = storage.span()?;
        let mut piece = Vec::new();
        piece.try_reserve_exact(span.len().min(1 << 16))?;
        piece.resize(span.len().min(1 << 16), 0);
        let mut at = 0;
        while at < span.len() {
            let most = piece.len().min(span.len() - at);
            match file.read(&mut piece[..most]) {
                // It was cut off meanwhile: what is missing stays zero.
                Ok(0) => break,
                Ok(n) => {
                    span.write(at, &piece[..n]);
                    at += n;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(storage)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn elements_are_read_as_they_lie_in_the_file() {
        let path = std::env::temp_dir().join(format!("libipc-elements-{}", std::process::id()));
        std::fs::write(&path, [1, 0, 2, 0, 3]).unwrap();
        let name = path.to_str().unwrap();
        let whole = Storage::from_file(name, DType::Short, None).unwrap();
        assert_eq!((whole.len(), whole.get(1).unwrap().to_i64()), (2, 2));
        assert_eq!(Storage::from_file(name, DType::Byte, Some(4)).unwrap().len(), 4);
        assert!(Storage::from_file(name, DType::Short, Some(3)).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Storage::from_file(name, DType::Byte, None).is_err());
    }
}
