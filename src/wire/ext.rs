//! The table of MessagePack extension codes, the prelude byte, and the limits of a message. doc/wire.md is this file in
//! prose.

/// The first byte of every message: the version of the form in the high four bits, flags in the low four.
pub const VERSION: u8 = 0x10;
/// The bits of the prelude that hold the version.
pub const VERSION_MASK: u8 = 0xf0;
/// Flag: some [`REF`] occurs, so a reader must number objects as it goes.
pub const HAS_REFS: u8 = 0x01;
/// Flag: some [`FUNCTION`] occurs: the message holds bytecode.
pub const HAS_CODE: u8 = 0x02;
/// Flag: not one value but several, as one array that is itself no object.
pub const MANY: u8 = 0x04;

/// All flags that there are.
pub const FLAGS: u8 = HAS_REFS | HAS_CODE | MANY;

/// An object that appeared before: its number, u32 big-endian. Tables, functions, attachments and [`FOUND`]s are
/// numbered from 0 as they begin.
pub const REF: i8 = 1;
/// A tensor or another thing beside the bytes: its index, u32 big-endian.
pub const ATTACHMENT: i8 = 2;
/// The bytes that [`ATTACHMENT`] takes, with its number.
pub const NAMED_ATTACHMENT: usize = 6;
/// A table with both an array part and other keys: an array, then a map.
pub const MIXED: i8 = 3;
/// A table with a registered metatable: the name as a str, then the table.
pub const CLASS: i8 = 4;
/// A Lua function: the Lua it runs on as an int, its bytecode as a bin, its upvalues as an array of values or
/// [`CELL`]s.
pub const FUNCTION: i8 = 5;
/// A loaded module or a function in it: the module's name as a str, the function's name as a str or nil.
pub const NAME: i8 = 6;
/// LuaJIT's boxed int64, big-endian.
pub const INT64: i8 = 7;
/// LuaJIT's boxed uint64, big-endian.
pub const UINT64: i8 = 8;
/// An upvalue shared with a closure that appeared before: the number of the upvalue, u32 big-endian, counted over all
/// upvalues that are not themselves a CELL.
pub const CELL: i8 = 9;
/// A metatable, class or module that is looked up by where it is: a module's name as a str, and an array of the steps
/// from there: a str for a field, an array of an int and a str for the upvalue of this number and name. It is an
/// object.
pub const FOUND: i8 = 10;
/// A table with such a metatable: the table, then a [`FOUND`] or a [`REF`] to one.
pub const OF_FOUND: i8 = 11;

/// Tables and closures nested deeper than this are refused, by writer and reader.
pub const MAX_DEPTH: usize = 1000;
/// The largest integer that a Lua without integers holds exactly, either sign.
pub const MAX_EXACT: i64 = 1 << 53;
