// Time and memory of loading a model, and random models to load.
//   load_bench make 1.3b <new folder>     random weights at the published size (5.7 GB, as much memory)
//   load_bench load <model>               seconds, and the peak of resident memory over the model's own size
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <string>

#include "common/error/error.h"
#include "pipeline/models/wan_transformer.h"

namespace {

double StatusGiB(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / (1 << 20);
  }
  return 0;
}

int Make(const std::filesystem::path& folder) {
  const c10::NoGradGuard no_grad;
  const sgmd::WanTransformer model{sgmd::WanConfig{}};
  for (const auto& [name, p] : model.parameters()) p.uniform_(-0.05, 0.05);
  std::filesystem::create_directories(folder);
  model.Save(folder);
  return 0;
}

int Load(const std::filesystem::path& path) {
  const double before = StatusGiB("VmHWM");
  const auto start = std::chrono::steady_clock::now();
  const sgmd::WanTransformer model = sgmd::WanTransformer::Load(path, at::kCPU);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double size = static_cast<double>(model.ParameterCount()) * 4 / (1 << 30);
  std::cout << "model " << size << " GiB, loaded in " << seconds << " s, peak " << StatusGiB("VmHWM") << " GiB ("
            << before << " GiB before loading)\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return sgmd::RunGuarded("load_bench", [&] {
    const std::string verb = argc > 1 ? argv[1] : "";
    if (verb == "make" && argc == 4 && argv[2] == std::string("1.3b")) return Make(argv[3]);
    if (verb == "load" && argc == 3) return Load(argv[2]);
    throw sgmd::Error("load_bench make 1.3b <new folder> | load_bench load <model>");
  });
}
