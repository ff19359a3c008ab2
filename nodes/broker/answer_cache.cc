#include "nodes/broker/answer_cache.h"

#include <algorithm>

#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/broker/answer_value.h"

namespace sgmd {
namespace {

constexpr std::size_t kSmallJobBytes = 128;
constexpr char kDoesNotAnswer[] = "the disk does not answer: what is read from it waits";
constexpr char kReadOnly[] = "the folder can only be read: what this run computes is not kept";

AnswerWriter::Opener OpenerOf(const std::filesystem::path& folder, const AnswerCache::Options& options) {
  const auto limit_bytes = static_cast<std::int64_t>(options.limit_gib * static_cast<double>(1 << 30));
  const auto on_damage = options.replay ? AnswerTable::OnDamage::kFail : AnswerTable::OnDamage::kSetAside;
  return [folder, limit_bytes, on_damage] { return AnswerTable::Open(folder, limit_bytes, on_damage); };
}

}  // namespace

AnswerCache::AnswerCache(const std::filesystem::path& folder, const Options& options)
    : folder_(folder.string()),
      patience_(options.writer.patience),
      writer_(OpenerOf(folder, options), options.writer),
      reader_([this] { return writer_.table(); }) {
  const auto table = writer_.table();
  if (!table && options.replay) throw Error(writer_.state().problem, folder_, "a replay needs the score cache");
  if (table && table->read_only()) LogWarning("score cache ", folder_, ": ", kReadOnly);
}

std::optional<AnswerStore::Found> AnswerCache::TakeFound() {
  auto done = reader_.Take();
  if (!done) return {};
  if (done->answer) {
    ++reads_.hits;
    reads_.hit_bytes += static_cast<double>(done->answer->view.bytes.size());
    reads_.hit_seconds += done->seconds;
    return Found{done->request, std::move(done->answer)};
  }
  ++reads_.misses;
  if (done->found == AnswerTable::Found::kDamaged) {
    ++reads_.corrupt;
    LogWarning("score cache: entry ", done->key.Hex(), " is corrupt and will be recomputed");
    Write([key = done->key](AnswerTable& t) { t.Remove(key); }, kSmallJobBytes);
  }
  return Found{done->request, {}};
}

void AnswerCache::Store(const Digest& key, const TensorFrame& answer) {
  Write([key, answer](AnswerTable& table) { table.Put(key, EncodeAnswer(answer)); }, answer.view.bytes.size());
}

void AnswerCache::Record(const AnswerPlace& place, const Digest& key) {
  Write([place, key](AnswerTable& table) { table.Record(place, key); }, kSmallJobBytes);
}

void AnswerCache::Write(AnswerWriter::Job job, std::size_t bytes) {
  const auto table = writer_.table();
  if (table && table->read_only()) return;
  writer_.Add(std::move(job), bytes);
}

void AnswerCache::RecordFingerprint(const ScorerFingerprint& scorer) {
  Write([text = scorer.Text()](AnswerTable& table) { table.AddFingerprint(text); }, kSmallJobBytes);
}

void AnswerCache::RequireFingerprint(const ScorerFingerprint& scorer) const {
  const std::vector<std::string> all = writer_.table()->Fingerprints();
  if (std::ranges::find(all, scorer.Text()) != all.end()) return;
  std::string recorded;
  for (const std::string& text : all) recorded += "\n  recorded: " + text;
  throw Error(
      StrCat("the score cache holds nothing of ", scorer.Text(), recorded.empty() ? "\n  it is empty" : recorded),
      folder_, "replay the experiment that was recorded, or run it with `up` to record it");
}

AnswerStore::Stats AnswerCache::stats() const {
  Stats stats = reads_;
  const AnswerWriter::State state = writer_.state();
  stats.problem = state.problem;
  if (stats.problem.empty() && reader_.Busy() >= patience_) stats.problem = kDoesNotAnswer;
  stats.waiting_bytes = state.waiting_bytes;
  stats.lost = state.lost;
  const auto table = writer_.table();
  if (!table) return stats;
  if (table->read_only()) stats.problem = kReadOnly;
  const AnswerTable::Totals totals = table->totals();
  stats.evicted = totals.evicted;
  stats.entries = totals.entries;
  stats.bytes = totals.bytes;
  return stats;
}

}  // namespace sgmd
