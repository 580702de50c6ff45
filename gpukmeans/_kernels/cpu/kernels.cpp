// The kernels of one instruction set. Built once for each: CMakeLists.txt gives the flags and
// GPUKMEANS_ISA, which names the namespace and the table.
#include "search.h"
#include "seeding.h"

namespace gpukmeans {
namespace GPUKMEANS_ISA {

template <class Row, class T> constexpr Kernels kernels() {
    return {targets_bytes<T>, arrange<T>, search_scratch<Row, T>, search<Row, T>};
}

#define GPUKMEANS_TEXT_(name) #name
#define GPUKMEANS_TEXT(name) GPUKMEANS_TEXT_(name)
extern const Table table;
const Table table = {GPUKMEANS_TEXT(GPUKMEANS_ISA), kernels<float, float>(), kernels<float, double>(),
                     kernels<double, double>(), seeding_kernels<float>(), seeding_kernels<double>()};

} // namespace GPUKMEANS_ISA
} // namespace gpukmeans
