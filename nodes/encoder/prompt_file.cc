#include "nodes/encoder/prompt_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/text/prompt_cleaning.h"

namespace sgmd {
namespace {

using nlohmann::json;

std::string At(const std::filesystem::path& path, std::int64_t line) { return StrCat(path.string(), ":", line); }

class Collector {
 public:
  Collector(const std::filesystem::path& path, bool keep_duplicates) : path_(path), keep_duplicates_(keep_duplicates) {}

  void Add(const std::string& prompt, std::int64_t line) {
    if (CollapseWhitespace(prompt).empty()) {
      throw Error("the prompt is empty", At(path_, line), "remove it; the negative prompt is --negative");
    }
    if (seen_.insert(prompt).second || keep_duplicates_) {
      file_.prompts.push_back(prompt);
    } else {
      ++file_.duplicates;
    }
  }
  PromptFile Finish() {
    if (file_.prompts.empty()) throw Error("no prompts here", path_.string());
    return std::move(file_);
  }

 private:
  const std::filesystem::path& path_;
  const bool keep_duplicates_;
  PromptFile file_;
  std::set<std::string> seen_;
};

// Calls handle(text, number) for every line without its end.
template <typename Handle>
void ForEachLine(const std::string& text, Handle handle) {
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    handle(line, ++number);
    begin = end + 1;
  }
}

std::string PromptOfJson(const std::string& line, const std::string& where) {
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where, R"(a line is like {"prompt": "a cat"})");
  for (const char* key : {"prompt", "text"}) {
    if (!object.contains(key)) continue;
    if (!object[key].is_string()) throw Error(StrCat("\"", key, "\" is not a string"), where);
    return object[key].get<std::string>();
  }
  throw Error("neither \"prompt\" nor \"text\"", where, R"(a line is like {"prompt": "a cat"})");
}

// One record a call; fields in quotes may hold commas, line ends and doubled quotes.
class CsvReader {
 public:
  CsvReader(const std::filesystem::path& path, const std::string& text) : path_(path), text_(text) {}

  // The line that the record begins on, 0 at the end of the file.
  std::int64_t Next(std::vector<std::string>* fields) {
    fields->clear();
    if (at_ >= text_.size()) return 0;
    const std::int64_t begins = line_;
    while (true) {
      fields->push_back(at_ < text_.size() && text_[at_] == '"' ? Quoted() : Plain());
      if (at_ >= text_.size()) return begins;
      const char end = text_[at_++];
      if (end == ',') continue;
      ++line_;  // '\n': what Plain and Quoted leave
      return begins;
    }
  }

 private:
  std::string Plain() {
    const std::size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    std::string field = text_.substr(at_, end - at_);
    if (field.ends_with('\r')) field.pop_back();
    at_ = end;
    return field;
  }
  std::string Quoted() {
    const std::int64_t begins = line_;
    std::string field;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\n') ++line_;
      if (text_[at_] != '"') {
        field += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        field += text_[at_++];
      } else {
        ++at_;
        if (at_ < text_.size() && text_[at_] == '\r') ++at_;
        if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n') {
          throw Error("text behind a closing quote", At(path_, line_), "quotes inside a field are doubled: \"\"");
        }
        return field;
      }
    }
    throw Error("the quote is not closed", At(path_, begins));
  }

  const std::filesystem::path& path_;
  const std::string& text_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

void ReadCsv(const std::filesystem::path& path, const std::string& text, Collector& out) {
  CsvReader csv(path, text);
  std::vector<std::string> fields;
  csv.Next(&fields);
  std::size_t column = fields.size();
  for (const char* name : {"prompt", "text", "caption"}) {
    const auto found = std::find(fields.begin(), fields.end(), name);
    if (column == fields.size()) column = static_cast<std::size_t>(found - fields.begin());
  }
  if (column == fields.size()) {
    throw Error("no column \"prompt\", \"text\" or \"caption\"", At(path, 1), "the first line names the columns");
  }
  while (const std::int64_t line = csv.Next(&fields)) {
    if (fields.size() == 1 && fields[0].empty()) continue;  // an empty line
    if (fields.size() <= column) throw Error(StrCat("only ", fields.size(), " columns"), At(path, line));
    out.Add(fields[column], line);
  }
}

}  // namespace

PromptFile PromptFile::Read(const std::filesystem::path& path, bool keep_duplicates) {
  std::string text = ReadFile(path);
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (const std::size_t bad = FirstInvalidUtf8(text); bad != std::string::npos) {
    throw Error("not UTF-8",
                At(path, 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n')),
                "convert it, such as with: iconv -f LATIN1 -t UTF-8");
  }
  Collector out(path, keep_duplicates);
  const std::string kind = path.extension().string();
  if (kind == ".csv") {
    ReadCsv(path, text, out);
  } else if (kind == ".jsonl" || kind == ".txt") {
    ForEachLine(text, [&](const std::string& line, std::int64_t number) {
      if (CollapseWhitespace(line).empty()) return;
      out.Add(kind == ".txt" ? line : PromptOfJson(line, At(path, number)), number);
    });
  } else {
    throw Error("what kind of prompt file is this?", path.string(), "known are .txt, .jsonl and .csv");
  }
  return out.Finish();
}

}  // namespace sgmd
