#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::Code;

#[test]
fn memory_is_zero_and_aligned() {
    for len in [0, 1, 63, 64, 4096, 1 << 20] {
        let m = Memory::heap(len).unwrap();
        assert_eq!(m.host().as_ptr() as usize % ALIGN, 0);
        assert!(Span::new(Arc::new(m)).to_vec().iter().all(|&b| b == 0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn large_memory_is_asked_to_lie_in_huge_pages() {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return;
    }
    let m = Memory::heap(8 << 20).unwrap();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let middle = m.host().as_ptr() as usize + m.size() / 2;
    // The lines of a mapping begin with its range, and end with its flags.
    let (mut inside, mut flags) = (false, None);
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((Ok(from), Ok(to))) =
            range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)))
        {
            inside = (from..to).contains(&middle);
        } else if inside && line.starts_with("VmFlags:") {
            flags = Some(line);
        }
    }
    assert!(flags.unwrap().split(' ').any(|flag| flag == "hg"), "{flags:?}");
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    for len in [usize::MAX, isize::MAX as usize, 1 << 62] {
        assert_eq!(Memory::heap(len).unwrap_err().code(), Code::Limit);
    }
}

#[test]
fn a_part_never_reaches_past_its_span() {
    let s = Span::new(Arc::new(Memory::heap(10).unwrap()));
    assert_eq!(s.part(4, 6).unwrap().len(), 6);
    assert!(s.part(4, 7).is_none());
    assert!(s.part(usize::MAX, 2).is_none());
}

#[test]
fn foreign_memory_is_released_by_its_last_holder() {
    static RELEASED: AtomicUsize = AtomicUsize::new(0);
    struct Owner(#[allow(dead_code)] Box<[u8; 8]>);
    impl Drop for Owner {
        fn drop(&mut self) {
            RELEASED.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mut bytes = Box::new([0u8; 8]);
    let data = NonNull::new(bytes.as_mut_ptr()).unwrap();
    // SAFETY: the box moves into the owner, its bytes stay where they are until that is dropped.
    let m = Arc::new(unsafe { Memory::foreign(data, 8, Box::new(Owner(bytes))) });
    let s = Span::new(m.clone());
    drop(m);
    assert_eq!(RELEASED.load(Ordering::SeqCst), 0);
    drop(s);
    assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
}
