// Videos in rows and columns with their names, as people look at them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sgmd {

struct PictureGrid {
  std::vector<std::string> columns, rows;      // names, as many as there are; or none, and then none are written
  std::vector<std::vector<at::Tensor>> cells;  // [row][column], each float32 [3, F, H, W] in about [-1, 1]; one shape

  PictureGrid Transposed() const;
};

/// uint8 [H', W', 3]: a cell is the strip of all frames, with a line between any two, each enlarged `enlarge` times.
at::Tensor Strips(const PictureGrid& grid, std::int64_t enlarge);

/// uint8 [F, H', W', 3]: the cells move. Without names, grids of as many rows have the same height.
at::Tensor Moving(const PictureGrid& grid, std::int64_t enlarge);

}  // namespace sgmd
