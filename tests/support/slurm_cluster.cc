#include "tests/support/slurm_cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/wait_until.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

// Of a process, all that it has started and what that has: session leaders, too, as Slurm's steps are.
std::vector<pid_t> Descendants(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    std::istringstream rest(stat.substr(stat.rfind(')') + 1));
    std::string state;
    pid_t parent = 0;
    if (rest >> state >> parent) children.emplace(parent, pid);
  }
  std::vector<pid_t> all{root};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto [first, last] = children.equal_range(all[i]);
    for (auto child = first; child != last; ++child) all.push_back(child->second);
  }
  return all;
}

std::string Configuration(const fs::path& folder, int port) {
  const std::string base = folder.string();
  std::string text = StrCat(
      "ClusterName=sgmd\nSlurmctldHost=localhost(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\n",
      "AuthInfo=socket=", base, "/munge.socket\nCredType=cred/munge\nMpiDefault=none\nSlurmctldPort=", port,
      "\nCommunicationParameters=NoInAddrAny,NoCtldInAddrAny\nStateSaveLocation=", base,
      "/state\nSlurmdSpoolDir=", base, "/spool.%n\nSlurmctldPidFile=", base, "/slurmctld.pid\nSlurmdPidFile=", base,
      "/slurmd.%n.pid\nSlurmctldLogFile=", base, "/slurmctld.log\nSlurmdLogFile=", base,
      "/%n.log\nProctrackType=proctrack/linuxproc\n",
      "SelectType=select/"
      "cons_tres\nSlurmdParameters=config_overrides\nReturnToService=2\nSlurmdTimeout=5\nKillWait=10\n",
      "MinJobAge=600\nSchedulerParameters=sched_interval=1,bf_interval=1\nPartitionName=all Nodes=a,b Default=YES "
      "MaxTime=INFINITE State=UP\n");
  for (const char* node : {"a", "b"})
    text += StrCat("NodeName=", node, " NodeHostname=localhost NodeAddr=127.0.0.1 Port=", ++port, " CPUs=64\n");
  return text;
}

}  // namespace

bool SlurmCluster::Available() {
  const auto has = [](const char* program) {
    return std::system(StrCat("command -v ", program, " > /dev/null").c_str()) == 0;
  };
  return ::geteuid() == 0 && has("munged") && has("slurmctld") && has("slurmd") && has("sbatch");
}

SlurmCluster::SlurmCluster() {
  const fs::path base = folder_.path();
  fs::permissions(base, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
  for (const char* name : {"state", "spool.a", "spool.b"}) fs::create_directories(base / name);
  std::random_device random;
  std::string key;
  for (int i = 0; i < 256; ++i) key += static_cast<char>(random());
  WriteFileAtomically(base / "munge.key", key);
  fs::permissions(base / "munge.key", fs::perms::owner_read);
  WriteFileAtomically(base / "slurm.conf", Configuration(base, 20000 + static_cast<int>(random() % 10000)));
  ::setenv("SLURM_CONF", (base / "slurm.conf").c_str(), 1);
  Start("munged",
        StrCat("exec munged -F --force --key-file=", base.string(), "/munge.key --socket=", base.string(),
               "/munge.socket --pid-file=", base.string(), "/munged.pid --seed-file=", base.string(), "/munged.seed"));
  WaitUntil(10, [&] { return fs::exists(base / "munge.socket"); });
  Start("slurmctld", "exec slurmctld -D");
  for (const char* node : {"a", "b"}) StartNode(node);
  if (!NodesAreIdle(30)) throw Error("Slurm does not start: " + LogEnds(), base.string());
}

SlurmCluster::~SlurmCluster() {
  for (const char* node : {"a", "b"}) Kill(node);
  for (const auto& [name, pid] : daemons_) ::kill(pid, SIGKILL);
  for (const auto& [name, pid] : daemons_) ::waitpid(pid, nullptr, 0);
  ::unsetenv("SLURM_CONF");
}

void SlurmCluster::Start(const std::string& name, const std::string& command) {
  const fs::path log = folder_ / (name + ".out");
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  daemons_[name] = pid;
}

void SlurmCluster::StartNode(const std::string& node) {
  Start(node, StrCat(MarkOf(node), " exec slurmd -D -N ", node));
}

// In the environment of all that a node has started, and of nothing else on this machine.
std::string SlurmCluster::MarkOf(const std::string& node) const {
  return StrCat("SGMD_NODE=", (folder_ / node).string());
}

// A step's manager is no child of the daemon, but has its environment.
void SlurmCluster::Kill(const std::string& node) {
  const auto daemon = daemons_.find(node);
  if (daemon == daemons_.end()) return;
  std::vector<pid_t> all = Descendants(daemon->second);
  ::kill(daemon->second, SIGKILL);
  ::waitpid(daemon->second, nullptr, 0);
  daemons_.erase(daemon);
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    try {
      if (ReadFile(entry.path() / "environ").find(MarkOf(node)) == std::string::npos) continue;
    } catch (const Error&) {
      continue;  // it ended meanwhile
    }
    for (const pid_t of_step : Descendants(pid)) all.push_back(of_step);
  }
  for (const pid_t pid : all) ::kill(pid, SIGKILL);
}

std::string SlurmCluster::Submit(const fs::path& script) {
  std::string job = Run("sbatch --parsable " + script.string());
  if (job.empty() || job.find_first_not_of("0123456789\n") != std::string::npos)
    throw Error("sbatch says: " + job, script.string());
  job.pop_back();
  return job;
}

std::string SlurmCluster::StateOf(const std::string& job) const {
  const std::string text = Run("scontrol show job -o " + job);
  const std::size_t at = text.find("JobState=");
  return at == std::string::npos ? "" : text.substr(at + 9, text.find(' ', at) - at - 9);
}

bool SlurmCluster::WaitFor(const std::string& job, const std::string& state, double seconds) const {
  return WaitUntil(seconds, [&] { return StateOf(job) == state; });
}

bool SlurmCluster::NodesAreIdle(double seconds) const {
  return WaitUntil(seconds, [&] { return Run("sinfo -h -o '%t %D'").find("idle 2") != std::string::npos; });
}

std::string SlurmCluster::Run(const std::string& command) const {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::string text;
  char part[4096];
  while (const std::size_t count = std::fread(part, 1, sizeof part, pipe)) text.append(part, count);
  ::pclose(pipe);
  return text;
}

std::string SlurmCluster::LogEnds() const {
  std::string text;
  for (const char* log : {"munged.out", "slurmctld.log", "a.log", "b.log"})
    text += StrCat("\n", log, "\n", Run(StrCat("tail -n 8 ", (folder_ / log).string())));
  return text;
}

}  // namespace sgmd
