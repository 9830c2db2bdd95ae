//! What tensors keep for each Lua state: the default type, the generator of random numbers, the last `tic`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::bind::vm::Lua;
use crate::tensor::{DType, Generator};

/// One for each Lua state that uses it.
#[derive(Debug)]
pub(super) struct Context {
    /// What `torch.Tensor` makes.
    pub default_type: Cell<DType>,
    /// Where `torch.rand` and its kin draw from; seeded by the system until `manualSeed`.
    pub generator: RefCell<Generator>,
}

impl Context {
    /// The context of this Lua state, made at the first call.
    pub(super) fn of(lua: Lua<'_>) -> Rc<Context> {
        lua.state().extra(|| {
            Rc::new(Context {
                default_type: Cell::new(DType::Double),
                generator: RefCell::new(Generator::from_system()),
            })
        })
    }
}
