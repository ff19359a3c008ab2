// What a process has asked of the stand-in device.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace sgmd::stand_in {

/// A number from the environment.
std::int64_t FromEnvironment(const char* name, std::int64_t otherwise);

/// Counts of one process, of all its devices together. At exit one line of JSON is appended to the file that
/// SGMD_STAND_IN_REPORT names: {"program", "kernels", "read_bytes", "written_bytes", "peak_bytes", "host_reads",
/// "to_host_copies", "to_device_copies", "pinned_copies", "attention": {kernel: calls}, "operators": {name: calls}}.
class Meter {
 public:
  static Meter& Get();
  ~Meter();

  /// One kernel that read and wrote so many bytes of device memory.
  void Kernel(const std::string& name, std::int64_t read, std::int64_t written);
  /// One forward pass of the kernel of attention that a Hopper GPU would run.
  void Attention(const char* kernel);
  void ToDevice() { Add(to_device_copies_); }
  /// A copy for which the host waits; `pinned`: into memory that a device writes by itself.
  void ToHost(bool pinned);
  /// A value that decides what the host does next, which waits for all kernels before it.
  void HostRead() { Add(host_reads_); }

  /// Throws c10::OutOfMemoryError beyond the limit of SGMD_STAND_IN_BYTES (none by default).
  void Allocate(std::int64_t bytes);
  void Free(std::int64_t bytes);

 private:
  void Add(std::int64_t& count) {
    const std::lock_guard lock(mutex_);
    ++count;
  }

  std::mutex mutex_;
  std::map<std::string, std::int64_t> operators_, attention_;
  std::int64_t kernels_ = 0, read_ = 0, written_ = 0, live_ = 0, peak_ = 0;
  std::int64_t host_reads_ = 0, to_host_copies_ = 0, to_device_copies_ = 0, pinned_copies_ = 0;
};

}  // namespace sgmd::stand_in
