// The kernels of one instruction set. Built once for each: CMakeLists.txt gives the flags and
// GPUKMEANS_ISA, which names the namespace and the table.
#include "boxes.h"
#include "centers.h"
#include "csr.h"
#include "pairs.h"
#include "search.h"
#include "seeding.h"
#include "sums.h"

namespace gpukmeans {
namespace GPUKMEANS_ISA {

template <class Row, class T> constexpr Searching searching() {
    return {targets_bytes<T>, make_targets<T>, leading_bytes<T>, make_leading<T>, look_bytes<T>, make_look<T>,
            search_scratch<Row, T>, search<Row, T>};
}

template <class Row> constexpr ByRow by_row() {
    return {moments<Row>, own_distances<Row>, add_scratch, add_up<Row>, pairs_scratch<Row>, add_pairs<Row>,
            number_rows<Row>};
}

#define GPUKMEANS_TEXT_(name) #name
#define GPUKMEANS_TEXT(name) GPUKMEANS_TEXT_(name)
extern const Table table;
const Table table = {GPUKMEANS_TEXT(GPUKMEANS_ISA),
                     move,
                     arrive,
                     learn,
                     owning_tasks,
                     owning_scratch,
                     find_owners,
                     searching<float, float>(),
                     searching<float, double>(),
                     searching<double, double>(),
                     by_row<float>(),
                     by_row<double>(),
                     seeding_kernels<float>(),
                     seeding_kernels<double>(),
                     {{csr_kernels<float, i32>(), csr_kernels<float, i64>()},
                      {csr_kernels<double, i32>(), csr_kernels<double, i64>()}},
                     GPUKMEANS_VECTOR_BYTES,
                     csr_table<float>,
                     csr_table<double>,
                     csr_squares};

} // namespace GPUKMEANS_ISA
} // namespace gpukmeans
