// A memory plan as a person reads it.
#include <algorithm>
#include <cstdio>
#include <map>

#include "common/error/error.h"
#include "launch/plan/memory_plan.h"

namespace sgmd {
namespace {

std::string Padded(const std::string& text, int width) {  // negative: to the left
  char padded[160];
  std::snprintf(padded, sizeof padded, "%*s", width, text.c_str());
  return padded;
}

// What a row is of, and its figures.
using Rows = std::vector<std::pair<std::string, std::string>>;

// Of more than three rows in a row with the same figures the first and the last.
std::string Shortened(const Rows& rows) {
  std::string text;
  for (std::size_t first = 0, end = 0; first < rows.size(); first = end) {
    for (end = first + 1; end < rows.size() && rows[end].second == rows[first].second;) ++end;
    const std::size_t alike = end - first;
    for (std::size_t i = first; i < end; ++i) {
      if (alike <= 3 || i == first || i == end - 1) text += rows[i].first + rows[i].second + "\n";
      if (alike > 3 && i == first) text += StrCat("  and ", alike - 2, " alike\n");
    }
  }
  return text;
}

std::string Have(double has) { return has > 0 ? Gigabytes(has) : "unknown"; }

}  // namespace

std::string Gigabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes > 0 && bytes < 0.05e9 ? "%.2f" : "%.1f", bytes / 1e9);
  return text;
}

std::string BalanceText(const MemoryPlan& memory) {
  std::map<std::string, double> by_device;
  for (const ProcessMemory& p : memory.processes) by_device[p.device] += p.step_flops;
  double sum = 0;
  auto busiest = by_device.begin();
  for (auto device = by_device.begin(); device != by_device.end(); ++device) {
    sum += device->second;
    if (device->second > busiest->second) busiest = device;
  }
  if (by_device.size() < 2 || sum == 0) return "";
  const double mean = sum / static_cast<double>(by_device.size());
  const int digits = mean < 1e13 ? 4 : 0;
  char line[160];
  std::snprintf(line, sizeof line,
                "balance %.2f: %.*f TFLOP a step on the busiest device, %s, %.*f on the mean of %zu\n",
                busiest->second / mean, digits, busiest->second / 1e12, busiest->first.c_str(), digits, mean / 1e12,
                by_device.size());
  return line;
}

std::string MemoryTable(const MemoryPlan& memory) {
  std::size_t longest = 8;
  for (const DeviceMemory& d : memory.devices) longest = std::max(longest, d.device.size());
  const int width = -static_cast<int>(longest);
  std::string text = StrCat("\n", Padded("memory, GB", -13), " ", Padded("device", width),
                            "  weights  gradients  optimizer    ema  activations  buffers  runtime    total  device has"
                            "  TFLOP/step\n");
  Rows processes, devices;
  for (const ProcessMemory& p : memory.processes) {
    const auto device =
        std::find_if(memory.devices.begin(), memory.devices.end(), [&](const auto& d) { return d.device == p.device; });
    const MemoryNeed& n = p.need;
    char flops[32];
    std::snprintf(flops, sizeof flops, p.step_flops < 1e13 ? "%.3g" : "%.0f", p.step_flops / 1e12);
    processes.emplace_back(Padded(p.process, -13) + " " + Padded(p.device, width),
                           Padded(Gigabytes(n.weights), 9) + Padded(Gigabytes(n.gradients), 11) +
                               Padded(Gigabytes(n.optimizer), 11) + Padded(Gigabytes(n.ema), 7) +
                               Padded(Gigabytes(n.activations), 13) + Padded(Gigabytes(n.buffers), 9) +
                               Padded(Gigabytes(n.runtime), 9) + Padded(Gigabytes(n.total()), 9) +
                               Padded(Have(device->has), 12) + Padded(flops, 12));
  }
  for (const DeviceMemory& d : memory.devices) {
    const auto here = std::count_if(memory.processes.begin(), memory.processes.end(),
                                    [&](const auto& p) { return p.device == d.device; });
    if (here > 1)
      devices.emplace_back(Padded(StrCat("all ", here), -13) + " " + Padded(d.device, width),
                           Padded(Gigabytes(d.need), 78) + Padded(Have(d.has), 12));
  }
  text += Shortened(processes) + Shortened(devices) + BalanceText(memory);
  std::string waiting;
  for (const auto& [process, bytes] : memory.waiting)
    if (!process.starts_with("teacher")) waiting += StrCat(waiting.empty() ? "" : ", ", process, " ", Gigabytes(bytes));
  text += StrCat("samples on their way, GB of main memory at most: ", waiting, "\n");
  if (memory.offloaded == 0) return text;
  return text + StrCat("offloaded weights, GB of main memory of each teacher: ", Gigabytes(memory.offloaded), "\n");
}

}  // namespace sgmd
