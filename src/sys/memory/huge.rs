//! Huge pages for large blocks.

/// Blocks of at least so many bytes are asked to lie in huge pages: as many as one of x86-64's has.
const LARGE: usize = 2 << 20;

/// Asks the system to back a large block that was not touched yet by huge pages, where it gives them only to those who
/// ask (`/sys/kernel/mm/transparent_hugepage/enabled` says `madvise`): one page fault in place of 512, and one entry of
/// the processor's cache of addresses in place of 512. Without them what goes through memory criss-cross (elements by
/// index, masks, transposed copies, sorting) takes up to twice as long.
#[cfg(target_os = "linux")]
pub fn ask_for_huge_pages(block: *mut u8, len: usize) {
    if len < LARGE {
        return;
    }
    // SAFETY: asks for a constant.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    // All pages that the block touches, those at its ends included: neighbours then are one range to the system.
    let start = block as usize / page * page;
    let end = (block as usize + len).next_multiple_of(page);
    // SAFETY: the pages are mapped, since the block is there; the advice leaves what lies in them as it is. A system
    // without huge pages refuses it, which is as good.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
pub fn ask_for_huge_pages(_: *mut u8, _: usize) {}
