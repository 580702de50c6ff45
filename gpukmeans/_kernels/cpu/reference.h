// The point that rows are looked at from.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "arrays.h"

namespace gpukmeans {
namespace {

// What is known of one feature of the points looked at.
struct Feature {
    double sum = 0, squares = 0; // the latter of the differences from the mean
    double low = std::numeric_limits<double>::infinity(), high = -low;
};

// See _frame.reference: of every step-th point. Of values that are not finite all that is promised is a finite point.
template <class Row> void reference_of(const Rows &points, i64 step, bool single, double *near) {
    const i64 d = points.d, looked_at = (points.n + step - 1) / step;
    std::vector<Feature> features(static_cast<std::size_t>(d));
    auto value = [&](i64 i, i64 q) {
        return static_cast<double>(static_cast<const Row *>(points.data)[i * points.row_step + q * points.column_step]);
    };
    auto each = [&](auto use) {
        for (i64 i = 0; d > 4 && i < points.n; i += step)
            for (i64 q = 0; q < d; q++) use(value(i, q), features[static_cast<std::size_t>(q)], near[q]);
        for (i64 q = 0; d <= 4 && q < d; q++) { // of few, one after another: what is known of it stays in registers
            Feature feature = features[static_cast<std::size_t>(q)];
            for (i64 i = 0; i < points.n; i += step) use(value(i, q), feature, near[q]);
            features[static_cast<std::size_t>(q)] = feature;
        }
    };
    each([](double x, Feature &feature, double &) {
        feature.sum += x;
        feature.low = std::min(feature.low, x), feature.high = std::max(feature.high, x);
    });
    for (i64 q = 0; q < d; q++) near[q] = features[static_cast<std::size_t>(q)].sum / static_cast<double>(looked_at);
    each([](double x, Feature &feature, double &mean) { feature.squares += (x - mean) * (x - mean); });
    for (i64 q = 0; q < d; q++) {
        const Feature &feature = features[static_cast<std::size_t>(q)];
        const double variance = feature.squares / static_cast<double>(looked_at);
        if (feature.low == feature.high)
            near[q] = feature.low;
        else if (std::isfinite(near[q]) && std::isfinite(variance)) {
            int exponent = 0;
            std::frexp(variance, &exponent);
            const double grid = std::ldexp(1.0, (exponent >= 0 ? exponent : exponent - 1) / 2 - 4); // rounded down
            near[q] = std::nearbyint(near[q] / grid) * grid;
        }
        if (single) near[q] = static_cast<double>(static_cast<float>(near[q]));
        if (!std::isfinite(near[q])) near[q] = 0;
    }
}

void reference(const AnyRows &points, i64 step, bool single, Out<double> near) {
    const bool floats = points.dtype() == nb::dtype<float>();
    (floats ? reference_of<float> : reference_of<double>)(rows_of(points), step, single, near.data());
}

} // namespace
} // namespace gpukmeans
