// The products of cuBLAS that CuPy's dense arrays need: column major, plain loops, on the host.
#include "device.h"
#include <cmath>
#include <vector>

enum Status { ok = 0, invalid = 7, unsupported = 15 };
enum Type { single_real = 0, double_real = 1 };

static int pointer_mode = 0, math_mode = 0;
static void* current_stream = nullptr;

// C = alpha op(A) op(B) + beta C, with op(A) of shape (m, k) and op(B) of shape (k, n).
template <class T>
static int product(int trans_a, int trans_b, int m, int n, int k, T alpha, const T* A, long long lda, const T* B,
                   long long ldb, T beta, T* C, long long ldc) {
    ++standin_counters.products;
    record("product", std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k), current_stream, 0);
    if (m < 1 || n < 1) return ok;
    const auto size = [](long long ld, int rows, int columns) { return sizeof(T) * (ld * (columns - 1) + rows); };
    if (!on_device(C, size(ldc, m, n))) return fail("product: C is not within device memory", invalid);
    if (k && !on_device(A, trans_a ? size(lda, k, m) : size(lda, m, k)))
        return fail("product: A is not within device memory", invalid);
    if (k && !on_device(B, trans_b ? size(ldb, n, k) : size(ldb, k, n)))
        return fail("product: B is not within device memory", invalid);
    std::vector<T> column(m), b(k);
    for (int j = 0; j < n; ++j) {
        for (int p = 0; p < k; ++p) b[p] = trans_b ? B[j + p * ldb] : B[p + j * ldb];
        std::fill(column.begin(), column.end(), T(0));
        if (trans_a) {
            for (int i = 0; i < m; ++i)
                for (int p = 0; p < k; ++p) column[i] += A[p + i * lda] * b[p];
        } else {
            for (int p = 0; p < k; ++p)
                for (int i = 0; i < m; ++i) column[i] += A[i + p * lda] * b[p];
        }
        for (int i = 0; i < m; ++i) {
            T& c = C[i + j * ldc];
            c = alpha * column[i] + (beta == T(0) ? T(0) : beta * c);
        }
    }
    return ok;
}

template <class T>
static int products(int ta, int tb, int m, int n, int k, T alpha, const T* A, int lda, long long sa, const T* B, int ldb,
                    long long sb, T beta, T* C, int ldc, long long sc, int count) {
    for (int i = 0; i < count; ++i)
        if (int e = product<T>(ta, tb, m, n, k, alpha, A + i * sa, lda, B + i * sb, ldb, beta, C + i * sc, ldc)) return e;
    return ok;
}

template <class T>
static int product_vector(int t, int m, int n, const T* alpha, const T* A, long long lda, const T* x, int dx, const T* beta,
                          T* y, int dy) {
    const int rows = t ? n : m, columns = t ? m : n;
    for (int i = 0; i < rows; ++i) {
        T sum = 0;
        for (int p = 0; p < columns; ++p) sum += (t ? A[p + i * lda] : A[i + p * lda]) * x[p * (long long)dx];
        T& out = y[i * (long long)dy];
        out = *alpha * sum + (*beta == T(0) ? T(0) : *beta * out);
    }
    return ok;
}

template <class T> static int dot(int n, const T* x, int dx, const T* y, int dy, T* result) {
    T sum = 0;
    for (long long i = 0; i < n; ++i) sum += x[i * dx] * y[i * dy];
    *result = sum;
    return ok;
}

template <class T>
static int add_matrices(int ta, int tb, int m, int n, const T* alpha, const T* A, long long lda, const T* beta, const T* B,
                        long long ldb, T* C, long long ldc) {
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) {
            T value = 0;
            if (*alpha != 0) value += *alpha * (ta ? A[j + i * lda] : A[i + j * lda]);
            if (*beta != 0) value += *beta * (tb ? B[j + i * ldb] : B[i + j * ldb]);
            C[i + j * ldc] = value;
        }
    return ok;
}

extern "C" {
int cublasCreate_v2(void** h) { *h = &current_stream; return ok; }
int cublasDestroy_v2(void*) { return ok; }
int cublasGetVersion_v2(void*, int* v) { *v = 120900; return ok; }
int cublasSetStream_v2(void*, void* s) { current_stream = s; return ok; }
int cublasGetStream_v2(void*, void** s) { *s = current_stream; return ok; }
int cublasSetPointerMode_v2(void*, int m) { pointer_mode = m; return ok; }
int cublasGetPointerMode_v2(void*, int* m) { *m = pointer_mode; return ok; }
int cublasSetMathMode(void*, int m) { math_mode = m; return ok; }
int cublasGetMathMode(void*, int* m) { *m = math_mode; return ok; }

#define OF_TYPE(S, T)                                                                                                       \
    int cublas##S##gemm_v2(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, const T* B,     \
                           int ldb, const T* beta, T* C, int ldc) {                                                         \
        return product<T>(ta, tb, m, n, k, *alpha, A, lda, B, ldb, *beta, C, ldc);                                          \
    }                                                                                                                       \
    int cublas##S##gemmStridedBatched(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda,      \
                                      long long sa, const T* B, int ldb, long long sb, const T* beta, T* C, int ldc,        \
                                      long long sc, int count) {                                                            \
        return products<T>(ta, tb, m, n, k, *alpha, A, lda, sa, B, ldb, sb, *beta, C, ldc, sc, count);                      \
    }                                                                                                                       \
    int cublas##S##gemv_v2(void*, int t, int m, int n, const T* alpha, const T* A, int lda, const T* x, int dx,             \
                           const T* beta, T* y, int dy) {                                                                   \
        return product_vector<T>(t, m, n, alpha, A, lda, x, dx, beta, y, dy);                                               \
    }                                                                                                                       \
    int cublas##S##dot_v2(void*, int n, const T* x, int dx, const T* y, int dy, T* r) { return dot<T>(n, x, dx, y, dy, r); } \
    int cublas##S##nrm2_v2(void*, int n, const T* x, int dx, T* r) {                                                        \
        dot<T>(n, x, dx, x, dx, r);                                                                                         \
        *r = std::sqrt(*r);                                                                                                 \
        return ok;                                                                                                          \
    }                                                                                                                       \
    int cublas##S##geam(void*, int ta, int tb, int m, int n, const T* alpha, const T* A, int lda, const T* beta,            \
                        const T* B, int ldb, T* C, int ldc) {                                                               \
        return add_matrices<T>(ta, tb, m, n, alpha, A, lda, beta, B, ldb, C, ldc);                                          \
    }
OF_TYPE(S, float)
OF_TYPE(D, double)

int cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at, int lda,
                               long long sa, const void* B, int bt, int ldb, long long sb, const void* beta, void* C, int ct,
                               int ldc, long long sc, int count, int, int) {
    if (at == single_real && bt == single_real && ct == single_real)
        return products<float>(ta, tb, m, n, k, *(float*)alpha, (const float*)A, lda, sa, (const float*)B, ldb, sb,
                               *(float*)beta, (float*)C, ldc, sc, count);
    if (at == double_real && bt == double_real && ct == double_real)
        return products<double>(ta, tb, m, n, k, *(double*)alpha, (const double*)A, lda, sa, (const double*)B, ldb, sb,
                                *(double*)beta, (double*)C, ldc, sc, count);
    return fail("product of types that the stand-in lacks", unsupported);
}
int cublasGemmEx(void* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at, int lda,
                 const void* B, int bt, int ldb, const void* beta, void* C, int ct, int ldc, int compute, int how) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, A, at, lda, 0, B, bt, ldb, 0, beta, C, ct, ldc, 0, 1,
                                      compute, how);
}
int cublasSgemmEx(void* h, int ta, int tb, int m, int n, int k, const float* alpha, const void* A, int at, int lda,
                  const void* B, int bt, int ldb, const float* beta, void* C, int ct, int ldc) {
    return cublasGemmEx(h, ta, tb, m, n, k, alpha, A, at, lda, B, bt, ldb, beta, C, ct, ldc, 0, 0);
}
}
