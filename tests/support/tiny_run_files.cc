// tiny_run_files FOLDER STEPS EXPERIMENT TOPOLOGY: a tiny run for tests that are no C++ (tests/chaos), as WriteTinyRun
// writes it, and in FOLDER/serial the state that the serial loop ends in.
#include "common/error/error.h"
#include "tests/support/serial_loop.h"
#include "tests/support/tiny_run.h"

int main(int argc, char** argv) {
  return sgmd::RunGuarded("tiny_run_files", [&] {
    if (argc != 5) throw sgmd::Error("tiny_run_files takes FOLDER STEPS EXPERIMENT TOPOLOGY");
    const std::filesystem::path folder = std::filesystem::absolute(argv[1]);
    sgmd::WriteTinyRun(folder, std::stoll(argv[2]), argv[3], argv[4]);
    sgmd::RunSerially(sgmd::LoadLaunchPlan(folder / "topology.toml").experiment, folder / "serial");
    return 0;
  });
}
