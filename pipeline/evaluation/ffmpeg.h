// The ffmpeg program as a child process with a stream of bytes into it or out of it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace sgmd {

/// Runs `ffmpeg -loglevel error arguments...`, whose "-" is this stream. Not started through a shell: no quoting.
class Ffmpeg {
 public:
  enum class Stream { kInto, kOutOf };
  /// Throws Error when ffmpeg is not installed. `about` is named in errors: the file that is read or written.
  Ffmpeg(Stream stream, const std::vector<std::string>& arguments, std::string about);
  /// Kills the process if Close was not called.
  ~Ffmpeg();
  Ffmpeg(const Ffmpeg&) = delete;
  Ffmpeg& operator=(const Ffmpeg&) = delete;

  /// All of `bytes`. Throws Error with ffmpeg's own words when it has ended early (and raises no SIGPIPE).
  void Write(std::span<const std::byte> bytes);
  /// Up to bytes.size(); 0 at the end of the stream.
  std::size_t Read(std::span<std::byte> bytes);
  /// Ends the stream and waits. Throws Error with ffmpeg's own words when it failed.
  void Close();
  /// Ends the process whatever it is doing, such as a reader that has enough.
  void Kill();

 private:
  [[noreturn]] void Fail(const std::string& what);
  int Wait();

  pid_t pid_ = -1;
  int stream_ = -1;    // one end of a socket pair: send() can be told not to raise SIGPIPE, write() cannot
  int messages_ = -1;  // a file without a name that takes ffmpeg's stderr; a pipe could fill up and block both sides
  std::string about_;
};

}  // namespace sgmd
