// Arrays of Python as the kernels take them, and which kernels serve.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "table.h"

namespace nb = nanobind;

namespace gpukmeans {

#if defined(__x86_64__) || defined(_M_X64)
namespace plain { extern const Table table; }
namespace avx2 { extern const Table table; }
namespace avx512 { extern const Table table; }
#elif defined(__aarch64__)
namespace neon { extern const Table table; }
#else
namespace plain { extern const Table table; }
#endif

namespace {

// The tables this machine can run, the fastest first.
std::vector<const Table *> usable() {
    std::vector<const Table *> tables;
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        tables.push_back(&avx512::table);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&avx2::table);
    tables.push_back(&plain::table);
#elif defined(__aarch64__)
    tables.push_back(&neon::table);
#else
    tables.push_back(&plain::table);
#endif
    return tables;
}

const Table *active = usable().front();

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Table *table : usable()) names.emplace_back(table->name);
    return names;
}

void use(const std::string &name) {
    for (const Table *table : usable())
        if (name == table->name) {
            active = table;
            return;
        }
    throw nb::value_error("this machine does not have that instruction set");
}

// Memory aligned to a cache line.
class Scratch {
  public:
    explicit Scratch(std::int64_t bytes) : memory_(new (std::align_val_t(64)) char[static_cast<std::size_t>(bytes) + 64]) {}
    ~Scratch() { operator delete[](memory_, std::align_val_t(64)); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    void *data() const { return memory_; }

  private:
    char *memory_;
};

template <class T> using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T> using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
using Line = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>; // of one of several types
using AnyRows = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;

template <class Array> auto data(const std::optional<Array> &array) {
    return array ? array->data() : nullptr;
}

Rows rows_of(const AnyRows &rows) {
    return {rows.data(), static_cast<i64>(rows.shape(0)), static_cast<i64>(rows.shape(1)), rows.stride(0), rows.stride(1)};
}

Sums lanes_of(const In<double> &sums, const In<double> &masses, const In<i64> &counts,
              const std::optional<In<double>> &rests, const In<double> &shift) {
    // only read
    return {shift.data(), const_cast<double *>(sums.data()), const_cast<double *>(masses.data()),
            const_cast<i64 *>(counts.data()), const_cast<double *>(data(rests))};
}

const Searching &searching_for(const AnyRows &rows, bool wide) {
    if (rows.dtype() == nb::dtype<double>()) return active->precise;
    if (rows.dtype() == nb::dtype<float>()) return wide ? active->wide : active->single;
    throw nb::type_error("rows have to be float32 or float64");
}

const ByRow &by_row_for(const AnyRows &rows) {
    if (rows.dtype() == nb::dtype<double>()) return active->doubles;
    if (rows.dtype() == nb::dtype<float>()) return active->floats;
    throw nb::type_error("rows have to be float32 or float64");
}

} // namespace
} // namespace gpukmeans
