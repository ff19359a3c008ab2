#include <CLI/CLI.hpp>
#include <charconv>
#include <iostream>

#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/signals/signals.h"
#include "nodes/simulator/simulation.h"

namespace {

using sgmd::NumberIn;
using sgmd::SimulationOptions;

constexpr char kAbout[] =
    R"(Measures the broker without any network that computes: sgmd-broker as a process of its own, and around it a
generator, a fake score and teachers that sleep where the real ones compute, over the transport of a real run.

  how it scales:    sgmd-simulate --teachers 16 --teacher-ms 200 --max-staleness 1
  a straggler:      sgmd-simulate --teachers 4 --micro-batches 32 --slow 1:10
  a death:          sgmd-simulate --teachers 4 --kill 1:3 --silence-seconds 2
  a hang:           sgmd-simulate --teachers 4 --micro-batches 64 --hang 1:12
  large samples:    sgmd-simulate --sample-bytes 8388608 --teacher-ms 50 --cache on
  a slow reader:    sgmd-simulate --teacher-ms 5 --micro-batches 256 --sample-bytes 1048576 --reader-delay-ms 20
  another build:    sgmd-simulate --broker ../other/build/bin/sgmd-broker

Each micro-batch comes back as what it was sent as, so that a lost, doubled or mixed up one is seen.)";

constexpr char kFooter[] =
    R"(What the figures say:
  throughput    against teachers that never wait; below --micro-batches of several times --teachers, or with
                --max-staleness 0, a part of it is the end of each step, at which teachers run out of work
  step          from the last gradient of a step to the last one of the next
  broker CPU    all threads of the broker, the questions for the status (--probe-ms) and the beats included
  broker loop   the broker answers from its one loop, so that is for how long it looked at nothing new; on a busy
                machine also for how long it was not given a core
  queue         what the answers said, so that what comes and goes between two questions is not seen

Exit codes: 0 every micro-batch was answered once and rightly; 1 not, or a mistake. The run folder lies in TMPDIR
(/tmp) while it runs and is removed at the end; with --cache on it holds every sample's bytes once.)";

// "K:F".
SimulationOptions::Some ParseSome(const std::string& text) {
  SimulationOptions::Some some;
  const char* const end = text.data() + text.size();
  const auto [colon, error] = std::from_chars(text.data(), end, some.teachers);
  if (error == std::errc() && some.teachers >= 0 && colon != end && *colon == ':') {
    const auto [rest, bad] = std::from_chars(colon + 1, end, some.value);
    if (bad == std::errc() && rest == end && some.value >= 1 && some.value <= 1e6) return some;
  }
  throw CLI::ValidationError(text, "is not <teachers>:<number of at least 1>, such as 1:10");
}

void AddLoad(CLI::App& app, SimulationOptions& o) {
  app.add_option("--teachers", o.teachers, "Simulated teachers")->check(CLI::Range(1, 400))->capture_default_str();
  app.add_option("--micro-batches", o.micro_batches, "Micro-batches of a step (default: four for each teacher)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--steps", o.steps, "Steps")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--max-staleness", o.max_staleness, "Steps rolled out ahead of the one whose gradients are awaited")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  app.add_option("--sample-bytes", o.sample_bytes,
                 "Bytes of a latent micro-batch, a multiple of 4: x_g, x_s, velocity and gradient are each as large")
      ->check(CLI::Range(4, 1 << 30))
      ->check(CLI::Validator(
          [](std::string& text) {
            return std::stoll(text) % 4 == 0 ? std::string() : text + " is not a multiple of 4, the size of a float";
          },
          "", ""))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "Seed of the samples' values")->check(sgmd::Seed())->capture_default_str();
}

void AddPaces(CLI::App& app, SimulationOptions& o) {
  const auto ms = [&](const char* name, double& value, const char* meaning) {
    app.add_option(name, value, meaning)->check(NumberIn(0, 1e7))->capture_default_str();
  };
  ms("--teacher-ms", o.teacher_ms, "What a teacher takes to score a micro-batch, in ms");
  ms("--generator-ms", o.generator_ms, "What the generator takes to roll a micro-batch out, in ms");
  ms("--fake-score-ms", o.fake_score_ms, "What the fake score takes to give a gradient, in ms");
  ms("--reader-delay-ms", o.reader_delay_ms,
     "What the fake score lets pass before it reads a message, in ms: what it has not read stays with the broker");
  app.add_option_function<std::string>(
      "--slow", [&](const std::string& text) { o.slow = ParseSome(text); }, "K:F: K teachers take F times as long");
  app.add_option_function<std::string>(
      "--kill", [&](const std::string& text) { o.killed = ParseSome(text); },
      "K:N: K teachers (the last ones) die with their Nth lease in hand, without a word");
  app.add_option_function<std::string>(
      "--hang", [&](const std::string& text) { o.hung = ParseSome(text); },
      "K:N: K teachers (the first ones) stand still with their Nth lease in hand, and go on beating");
}

void AddBroker(CLI::App& app, SimulationOptions& o) {
  app.add_option_function<std::string>(
         "--cache", [&](const std::string& text) { o.cache = text == "on"; },
         "Whether the broker keeps the scores on disk: on or off (default: off)")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--cache-limit-gib", o.cache_limit_gib, "[cache] limit_gib")
      ->check(NumberIn(1e-6, 1e6))
      ->capture_default_str();
  app.add_option("--lease-seconds", o.lease_seconds, "[transport] lease_seconds")
      ->check(NumberIn(1e-3, 1e6))
      ->capture_default_str();
  app.add_option("--silence-seconds", o.silence_seconds, "[transport] silence_seconds")
      ->check(NumberIn(0.1, 1e6))
      ->capture_default_str();
  app.add_option("--broker", o.broker, "The broker to measure (default: sgmd-broker beside this program)");
}

}  // namespace

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals(sgmd::Interrupt::kAsks);
  CLI::App app{kAbout};
  app.footer(kFooter);
  SimulationOptions options;
  bool json = false;
  AddLoad(app, options);
  AddPaces(app, options);
  AddBroker(app, options);
  app.add_option("--probe-ms", options.probe_ms, "Between two questions for the status, in ms; 0: none")
      ->check(NumberIn(0, 1e6))
      ->capture_default_str();
  app.add_option("--patience-seconds", options.patience_seconds,
                 "Without any gradient for as long, what is missing is lost")
      ->check(NumberIn(0.1, 1e6))
      ->capture_default_str();
  app.add_flag("--json", json, "Print an object in place of the table");
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-simulate")) return *code;
  return sgmd::RunGuarded("sgmd-simulate", [&] {
    sgmd::InitLog("simulator", sgmd::LogLevel::kWarning);
    if (options.slow.teachers > options.teachers) throw sgmd::Error("--slow names more teachers than there are");
    if (options.killed.teachers + options.hung.teachers >= options.teachers)
      throw sgmd::Error("--kill and --hang leave no teacher");
    const sgmd::SimulationReport report = sgmd::Simulate(options, stop);
    std::cout << (json ? ToJson(report) + "\n" : ToTable(report)) << std::flush;
    return report.Whole() ? 0 : 1;
  });
}
