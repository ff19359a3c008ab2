#include "tests/support/stand_in_device/meter.h"

#include <c10/util/Exception.h>
#include <errno.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace sgmd::stand_in {
namespace {

std::string Json(const std::map<std::string, std::int64_t>& counts) {
  std::ostringstream out;
  const char* separator = "{";
  for (const auto& [name, count] : counts) {
    out << separator << "\"" << name << "\": " << count;
    separator = ", ";
  }
  out << (counts.empty() ? "{}" : "}");
  return out.str();
}

}  // namespace

std::int64_t FromEnvironment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != 0 ? std::strtoll(text, nullptr, 10) : otherwise;
}

Meter& Meter::Get() {
  static Meter meter;
  return meter;
}

Meter::~Meter() {
  const char* path = std::getenv("SGMD_STAND_IN_REPORT");
  if (path == nullptr || kernels_ == 0) return;
  std::ostringstream line;  // written at once, as several processes append
  line << "{\"program\": \"" << program_invocation_short_name << "\", \"kernels\": " << kernels_
       << ", \"read_bytes\": " << read_ << ", \"written_bytes\": " << written_ << ", \"peak_bytes\": " << peak_
       << ", \"host_reads\": " << host_reads_ << ", \"to_host_copies\": " << to_host_copies_
       << ", \"to_device_copies\": " << to_device_copies_ << ", \"pinned_copies\": " << pinned_copies_
       << ", \"attention\": " << Json(attention_) << ", \"operators\": " << Json(operators_) << "}\n";
  std::ofstream(path, std::ios::app) << line.str() << std::flush;
}

void Meter::Kernel(const std::string& name, std::int64_t read, std::int64_t written) {
  const std::lock_guard lock(mutex_);
  ++operators_[name];
  ++kernels_;
  read_ += read;
  written_ += written;
}

void Meter::Attention(const char* kernel) {
  const std::lock_guard lock(mutex_);
  ++attention_[kernel];
}

void Meter::ToHost(bool pinned) {
  const std::lock_guard lock(mutex_);
  ++to_host_copies_;
  pinned_copies_ += pinned;
}

void Meter::Allocate(std::int64_t bytes) {
  static const std::int64_t limit = FromEnvironment("SGMD_STAND_IN_BYTES", 0);
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_WITH(OutOfMemoryError, limit == 0 || live_ + bytes <= limit, "CUDA out of memory. Tried to allocate ",
                   bytes, " bytes; of ", limit, " bytes ", live_, " are in use.");
  live_ += bytes;
  peak_ = std::max(peak_, live_);
}

void Meter::Free(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  live_ -= bytes;
}

}  // namespace sgmd::stand_in
