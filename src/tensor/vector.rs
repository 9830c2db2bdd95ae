//! Compiling a loop for more than one instruction set.
//!
//! The library must run on any processor of its architecture, so it is never built for the builder's own; a loop that
//! gains by wider vectors is compiled twice instead, and the processor is asked which to run.

/// Compiles `$body` for AVX2 too and picks at run time.
macro_rules! vectorised {
    ($(#[$doc:meta])* unsafe fn $name:ident<$($g:ident: $b:path),*>($($a:ident: $t:ty),*) -> $r:ty $body:block) => {
        $(#[$doc])*
        #[inline]
        unsafe fn $name<$($g: $b),*>($($a: $t),*) -> $r {
            #[inline(always)]
            unsafe fn body<$($g: $b),*>($($a: $t),*) -> $r $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn wide<$($g: $b),*>($($a: $t),*) -> $r {
                    // SAFETY: the caller's promise, passed on.
                    unsafe { body::<$($g),*>($($a),*) }
                }
                if $crate::tensor::vector::wide_available() {
                    // SAFETY: the processor has the instructions; the rest is the caller's promise.
                    return unsafe { wide::<$($g),*>($($a),*) };
                }
            }
            // SAFETY: the caller's promise, passed on.
            unsafe { body::<$($g),*>($($a),*) }
        }
    };
}

pub(super) use vectorised;

/// Whether the processor has what [`vectorised!`] compiles for.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn wide_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}
