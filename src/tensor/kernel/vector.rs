//! Compiling a loop for more than one instruction set.
//!
//! The library must run on any processor of its architecture, so it is never built for the builder's own; a loop that
//! gains by wider vectors is compiled twice instead, and the processor is asked which to run.

/// Compiles `$body` for AVX2 too and picks at run time. Types come before a semicolon, a constant after it.
macro_rules! vectorised {
    (
        $(#[$doc:meta])*
        $vis:vis unsafe fn $name:ident<$($g:ident: $b:path),* $(; const $c:ident: usize)?>(
            $($a:ident: $t:ty),*
        ) -> $r:ty $body:block
    ) => {
        $(#[$doc])*
        #[inline]
        $vis unsafe fn $name<$($g: $b,)* $(const $c: usize)?>($($a: $t),*) -> $r {
            #[inline(always)]
            unsafe fn body<$($g: $b,)* $(const $c: usize)?>($($a: $t),*) -> $r $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn wide<$($g: $b,)* $(const $c: usize)?>($($a: $t),*) -> $r {
                    // SAFETY: the caller's promise, passed on.
                    unsafe { body::<$($g,)* $($c)?>($($a),*) }
                }
                if $crate::tensor::kernel::vector::wide_available() {
                    // SAFETY: the processor has the instructions; the rest is the caller's promise.
                    return unsafe { wide::<$($g,)* $($c)?>($($a),*) };
                }
            }
            // SAFETY: the caller's promise, passed on.
            unsafe { body::<$($g,)* $($c)?>($($a),*) }
        }
    };
}

pub(in crate::tensor) use vectorised;

/// Whether the processor has what [`vectorised!`] compiles for.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in crate::tensor) fn wide_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}
