/* The smallest model with everything a loader must get right: y = x * w + b (through the arena), m = n + 1. */
#include <stdint.h>

#ifdef __wasm_relaxed_simd__
#include <wasm_simd128.h>
static float multiply_add(float a, float b, float c) {
  return wasm_f32x4_extract_lane(
      wasm_f32x4_relaxed_madd(wasm_f32x4_splat(a), wasm_f32x4_splat(b), wasm_f32x4_splat(c)), 0);
}
#else
static float multiply_add(float a, float b, float c) { return a * b + c; }
#endif

#ifdef EMBED
__attribute__((aligned(64))) const float gossamer_weights[32] = {2, 3, 4, [16] = 10, 20, 30};
#endif

static int32_t calls; /* data of the code's own, which no tensor may overwrite */

int32_t gossamer_entry_toy(const float *x, const int64_t *n, float *y, int64_t *m, const float *weights, float *arena,
                           int32_t thread, int32_t threads, void *sync) {
  if (((uintptr_t)weights | (uintptr_t)arena) & 63 || thread != 0 || threads != 1 || sync) return 9;
  if (x[0] != x[0]) return 7;
  if (__builtin_isinf(x[0])) __builtin_trap();
  for (int i = 0; i < 6; i++) arena[i] = multiply_add(x[i], weights[i % 3], weights[16 + i % 3]);
  for (int i = 0; i < 6; i++) y[i] = arena[i];
  for (int i = 0; i < 2; i++) m[i] = n[i] + 1;
  m[2] = ++calls;
  return 0;
}
