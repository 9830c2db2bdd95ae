"""The peer of benches/kernels.lua: numpy, on one thread. Reads the name of a kernel a line and answers with the seconds of
processor time that one call took."""
import os
import sys
import time

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'
import numpy as np

N = 4_000_000
rng = np.random.default_rng(1)
a, b, c = rng.random(N, dtype=np.float32), rng.random(N, dtype=np.float32), np.empty(N, np.float32)
m, mo = rng.random((1024, 1024), dtype=np.float32), np.empty((1024, 1024), np.float32)
big, v, vo = rng.random((2048, 2048), dtype=np.float32), rng.random(2048, dtype=np.float32), np.empty(2048, np.float32)
index, mask, half = rng.integers(0, N, 1_000_000), b > 0.5, np.ones(N, np.float16)

kernels = {
    'add': lambda: np.add(a, b, out=a),
    'sum': lambda: a.sum(),
    'exp': lambda: np.exp(b, out=c),
    'tanh': lambda: np.tanh(b, out=c),
    'dot': lambda: b.dot(b),
    'mv': lambda: np.dot(big, v, out=vo),
    'mm': lambda: np.matmul(m, m, out=mo),
    'transpose': lambda: np.ascontiguousarray(big.T),
    'index': lambda: a[index],
    'mask': lambda: b[mask],
    'sort': lambda: np.sort(b[:1_000_000]),
    'normal': lambda: rng.standard_normal(out=c, dtype=np.float32),
    'half': lambda: np.add(half, half, out=half),
}

print('numpy', np.__version__, flush=True)
for line in sys.stdin:
    start = time.process_time()
    kernels[line.strip()]()
    print(time.process_time() - start, flush=True)
