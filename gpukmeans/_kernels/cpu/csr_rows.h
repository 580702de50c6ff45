// Sparse rows.
#pragma once

#include "arrays.h"

namespace gpukmeans {
namespace {

// Sparse rows, and what can be done with some of them in the calling thread; see csr.h.
class CsrRows {
  public:
    CsrRows(Line data, Line indices, In<i64> edges, std::optional<In<double>> lengths, i64 d)
        : kernels_(active->csr[kind(data, nb::dtype<float>(), nb::dtype<double>())]
                              [kind(indices, nb::dtype<i32>(), nb::dtype<i64>())]),
          rows_{data.data(), indices.data(), edges.data(), gpukmeans::data(lengths),
                static_cast<i64>(edges.shape(0)) - 1, d},
          kept_(nb::make_tuple(data, indices, edges, lengths)) {}

    i64 nearest(i64 first, i64 last, In<double> centers, In<double> high, In<double> low, Line table, Line norms,
                double scale, double reach, Out<i32> labels) const {
        nb::gil_scoped_release released;
        const bool single = table.dtype() == nb::dtype<float>();
        const i64 k = static_cast<i64>(centers.shape(0)), width = static_cast<i64>(norms.shape(0));
        const CsrCenters c{k,           width,        centers.data(), high.data(), low.data(),
                           table.data(), norms.data(), scale,          reach};
        Scratch scratch(width * static_cast<i64>(sizeof(double)));
        return (single ? kernels_.nearest_single : kernels_.nearest_precise)(rows_, first, last, c, labels.data(),
                                                                              scratch.data());
    }

    void own(i64 first, i64 last, In<double> centers, In<double> high, In<double> low, In<i32> labels,
             Out<double> out) const {
        nb::gil_scoped_release released;
        const CsrCenters c{static_cast<i64>(centers.shape(0)), 0, centers.data(), high.data(), low.data(), nullptr,
                           nullptr, 1.0, 0.0};
        kernels_.own(rows_, first, last, c, labels.data(), out.data());
    }

    void add(In<i64> which, In<double> factors, In<i64> edges, Out<double> sums) const {
        nb::gil_scoped_release released;
        kernels_.add(rows_, which.data(), factors.data(), edges.data(), static_cast<i64>(edges.shape(0)) - 1, sums.data());
    }

    void lower(i64 first, i64 last, In<double> table, In<double> norms, double scale, double noise, In<double> closest,
               Out<double> out) const {
        nb::gil_scoped_release released;
        const i64 width = static_cast<i64>(table.shape(1));
        const CsrPoints p{static_cast<i64>(norms.shape(0)), width, table.data(), norms.data(), scale, noise};
        Scratch scratch(width * static_cast<i64>(sizeof(double)));
        kernels_.lower(rows_, first, last, p, closest.data(), out.data(), last - first, scratch.data());
    }

  private:
    static int kind(const Line &array, nb::dlpack::dtype first, nb::dlpack::dtype second) {
        if (array.dtype() == first) return 0;
        if (array.dtype() == second) return 1;
        throw nb::type_error("entries have to be float32 or float64, their features int32 or int64");
    }

    const CsrKernels &kernels_;
    const Csr rows_;
    const nb::object kept_; // the arrays, so that they live as long as this does
};

// Entries a line of a table of k columns has: whole registers.
i64 table_width(i64 k, i64 itemsize) {
    const i64 step = active->table_width / itemsize;
    return (k + step - 1) / step * step;
}

void fill_table(In<double> centers, In<double> factors, nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> table) {
    nb::gil_scoped_release released;
    const auto fill = table.dtype() == nb::dtype<float>() ? active->single_table : active->double_table;
    fill(centers.data(), factors.data(), static_cast<i64>(centers.shape(0)), static_cast<i64>(centers.shape(1)),
         static_cast<i64>(table.shape(1)), table.data());
}

void squares(In<double> centers, Out<double> high, Out<double> low) {
    nb::gil_scoped_release released;
    active->squares(centers.data(), static_cast<i64>(centers.shape(0)), static_cast<i64>(centers.shape(1)), high.data(),
                    low.data());
}

} // namespace
} // namespace gpukmeans
