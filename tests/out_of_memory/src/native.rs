//! The C library's allocator, as a loaded library sees it, made to fail: the addresses of `malloc` and its kin in that
//! library's table of imported functions are replaced. So the library is tested as it is shipped, and nobody else's
//! memory runs out.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

#[repr(C)]
struct Object {
    base: usize,
    name: *const c_char,
    headers: *const Header,
    count: u16,
}

/// `Elf64_Phdr`
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

/// `Elf64_Rela`
#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

/// `Elf64_Sym`
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

unsafe extern "C" {
    fn dl_iterate_phdr(
        look: unsafe extern "C" fn(*const Object, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    fn mprotect(address: *mut c_void, size: usize, protection: c_int) -> c_int;
    fn sysconf(name: c_int) -> c_long;
    fn malloc(n: usize) -> *mut c_void;
    fn calloc(n: usize, size: usize) -> *mut c_void;
    fn realloc(p: *mut c_void, n: usize) -> *mut c_void;
    fn posix_memalign(to: *mut *mut c_void, align: usize, n: usize) -> c_int;
    fn aligned_alloc(align: usize, n: usize) -> *mut c_void;
    fn pthread_create(to: *mut usize, attributes: *const c_void, f: *const c_void, data: *mut c_void) -> c_int;
}

const ENOMEM: c_int = 12;
const EAGAIN: c_int = 11;

static ARMED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static FAIL_AT: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);
/// Requests of fewer bytes are granted: those are for the library's reserve.
static LEAST: AtomicUsize = AtomicUsize::new(0);

/// Whether this request gets no memory.
fn fails(size: usize) -> bool {
    if !ARMED.load(Ordering::Relaxed) || size < LEAST.load(Ordering::Relaxed) {
        return false;
    }
    let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let at = FAIL_AT.load(Ordering::Relaxed);
    call >= at && call - at < FAILURES.load(Ordering::Relaxed)
}

unsafe extern "C" fn failing_malloc(n: usize) -> *mut c_void {
    // SAFETY: as malloc.
    if fails(n) { ptr::null_mut() } else { unsafe { malloc(n) } }
}

unsafe extern "C" fn failing_calloc(n: usize, size: usize) -> *mut c_void {
    // SAFETY: as calloc.
    if fails(n.saturating_mul(size)) { ptr::null_mut() } else { unsafe { calloc(n, size) } }
}

unsafe extern "C" fn failing_realloc(p: *mut c_void, n: usize) -> *mut c_void {
    // SAFETY: as realloc.
    if fails(n) { ptr::null_mut() } else { unsafe { realloc(p, n) } }
}

unsafe extern "C" fn failing_memalign(to: *mut *mut c_void, align: usize, n: usize) -> c_int {
    // SAFETY: as posix_memalign.
    if fails(n) { ENOMEM } else { unsafe { posix_memalign(to, align, n) } }
}

unsafe extern "C" fn failing_aligned(align: usize, n: usize) -> *mut c_void {
    // SAFETY: as aligned_alloc.
    if fails(n) { ptr::null_mut() } else { unsafe { aligned_alloc(align, n) } }
}

unsafe extern "C" fn failing_thread(
    to: *mut usize,
    attributes: *const c_void,
    f: *const c_void,
    data: *mut c_void,
) -> c_int {
    // SAFETY: as pthread_create, which takes memory for a stack.
    if fails(1 << 20) { EAGAIN } else { unsafe { pthread_create(to, attributes, f, data) } }
}

fn replacement(name: &CStr) -> Option<usize> {
    Some(match name.to_bytes() {
        b"malloc" => failing_malloc as *const () as usize,
        b"calloc" => failing_calloc as *const () as usize,
        b"realloc" => failing_realloc as *const () as usize,
        b"posix_memalign" => failing_memalign as *const () as usize,
        b"aligned_alloc" => failing_aligned as *const () as usize,
        b"pthread_create" => failing_thread as *const () as usize,
        _ => return None,
    })
}

/// What `patch` looks for, and how many addresses it has replaced.
struct Search<'a> {
    library: &'a CStr,
    replaced: usize,
}

/// Replaces the allocator in the loaded library whose path ends in `library`; how many addresses that took.
pub fn patch(library: &CStr) -> usize {
    let mut search = Search { library, replaced: 0 };
    // SAFETY: `look` is called with the search, which outlives the call.
    unsafe { dl_iterate_phdr(look, (&raw mut search).cast()) };
    search.replaced
}

unsafe extern "C" fn look(object: *const Object, _: usize, data: *mut c_void) -> c_int {
    const PT_DYNAMIC: u32 = 2;
    // SAFETY: the loader hands over an object that stays loaded during the call, and its headers.
    unsafe {
        let (object, search) = (&*object, &mut *data.cast::<Search<'_>>());
        if object.name.is_null() || !CStr::from_ptr(object.name).to_bytes().ends_with(search.library.to_bytes()) {
            return 0;
        }
        let headers = std::slice::from_raw_parts(object.headers, object.count.into());
        if let Some(dynamic) = headers.iter().find(|h| h.kind == PT_DYNAMIC) {
            search.replaced += replace(object.base, (object.base + dynamic.address as usize) as *const [usize; 2]);
        }
    }
    0
}

/// # Safety
/// `entry` is the dynamic section of an object that is loaded at `base`.
unsafe fn replace(base: usize, mut entry: *const [usize; 2]) -> usize {
    // DT_NULL, DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL
    const NULL: usize = 0;
    const PLT_SIZE: usize = 2;
    const STRINGS: usize = 5;
    const SYMBOLS: usize = 6;
    const RELA: usize = 7;
    const RELA_SIZE: usize = 8;
    const PLT: usize = 23;
    let mut found = [0usize; 24];
    // SAFETY: the section ends in an entry of zeros; the tables that it names are mapped, and relocations name
    // addresses of the object.
    unsafe {
        while (*entry)[0] != NULL {
            if let Some(place) = found.get_mut((*entry)[0]) {
                *place = (*entry)[1];
            }
            entry = entry.add(1);
        }
        // glibc has made addresses of the offsets, others have not.
        let at = |offset: usize| if offset < base { base + offset } else { offset };
        let (symbols, strings) = (at(found[SYMBOLS]) as *const Symbol, at(found[STRINGS]) as *const c_char);
        let mut replaced = 0;
        for (table, size) in [(found[RELA], found[RELA_SIZE]), (found[PLT], found[PLT_SIZE])] {
            if table == 0 {
                continue;
            }
            let count = size / size_of::<Relocation>();
            for relocation in std::slice::from_raw_parts(at(table) as *const Relocation, count) {
                let symbol = (relocation.info >> 32) as usize;
                if symbol == 0 {
                    continue;
                }
                let name = CStr::from_ptr(strings.add((*symbols.add(symbol)).name as usize));
                if let Some(function) = replacement(name) {
                    write((base + relocation.offset as usize) as *mut usize, function);
                    replaced += 1;
                }
            }
        }
        replaced
    }
}

/// Writes into memory that the loader has made read-only.
///
/// # Safety
/// `to` is a place in an object's table of addresses.
unsafe fn write(to: *mut usize, value: usize) {
    const READ_WRITE: c_int = 3;
    const PAGE_SIZE: c_int = 30;
    // SAFETY: the page belongs to the object's data. It stays writable, which harms nobody in a test.
    unsafe {
        let page = sysconf(PAGE_SIZE) as usize;
        mprotect((to as usize / page * page) as *mut c_void, page, READ_WRITE);
        (*to.cast::<AtomicUsize>()).store(value, Ordering::SeqCst);
    }
}

/// From now on the `at`-th request of `least` bytes or more gets no memory, and as many after it as `failures` says.
pub fn plan(at: u64, failures: u64, least: usize) {
    CALLS.store(0, Ordering::Relaxed);
    FAIL_AT.store(at, Ordering::Relaxed);
    FAILURES.store(failures, Ordering::Relaxed);
    LEAST.store(least, Ordering::Relaxed);
}

/// Begins or ends the count of requests; how many there were.
pub fn arm(on: bool) -> u64 {
    ARMED.store(on, Ordering::SeqCst);
    CALLS.load(Ordering::SeqCst)
}
