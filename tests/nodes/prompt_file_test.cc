#include "nodes/encoder/prompt_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/encoder/bank_job.h"
#include "pipeline/data/prompt_bank.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class PromptFileTest : public ::testing::Test {
 protected:
  PromptFile Read(const std::string& name, const std::string& text) {
    WriteFileAtomically(folder_ / name, text);
    return PromptFile::Read(folder_ / name);
  }
  std::string Refusal(const std::string& name, const std::string& text) {
    try {
      Read(name, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  TempFolder folder_;
};

TEST_F(PromptFileTest, TakesAPromptALineAndKeepsItAsItIs) {
  const PromptFile file = Read("p.txt", "\xEF\xBB\xBF a  cat \r\n\n猫，狗\n a  cat \nlast");
  EXPECT_THAT(file.prompts, ElementsAre(" a  cat ", "猫，狗", "last"));
  EXPECT_EQ(file.duplicates, 1);
}

TEST_F(PromptFileTest, TakesJsonLines) {
  EXPECT_THAT(Read("p.jsonl", "{\"prompt\":\"a\\nb\",\"text\":\"no\"}\n\n{\"id\":3,\"text\":\"c\"}\n").prompts,
              ElementsAre("a\nb", "c"));
  EXPECT_THAT(Refusal("p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":"), HasSubstr("p.jsonl:2: not a JSON object"));
  EXPECT_THAT(Refusal("p.jsonl", "\n{\"caption\":\"a\"}"), HasSubstr("p.jsonl:2: neither \"prompt\" nor \"text\""));
  EXPECT_THAT(Refusal("p.jsonl", "{\"prompt\":7}"), HasSubstr("p.jsonl:1: \"prompt\" is not a string"));
  EXPECT_THAT(Refusal("p.jsonl", "{\"prompt\":\" \"}"), HasSubstr("p.jsonl:1: the prompt is empty"));
}

TEST_F(PromptFileTest, TakesCsvWithQuotesAndLineEndsInsideThem) {
  EXPECT_THAT(
      Read("p.csv", "id,caption,score\r\n1,\"a \"\"red\"\" ball,\nfast\",2\r\n2,plain,3\r\n\r\n3,\"last\"").prompts,
      ElementsAre("a \"red\" ball,\nfast", "plain", "last"));
  EXPECT_THAT(Read("p.csv", "text,prompt\nno,yes\n").prompts, ElementsAre("yes"));
  EXPECT_THAT(Refusal("p.csv", "id,title\n1,x\n"), HasSubstr("p.csv:1: no column"));
  EXPECT_THAT(Refusal("p.csv", "id,prompt\n1,\"two\nlines\"\n3\n"), HasSubstr("p.csv:4: only 1 columns"));
  EXPECT_THAT(Refusal("p.csv", "prompt\nok\n\"never closed\n\n"), HasSubstr("p.csv:3: the quote is not closed"));
  EXPECT_THAT(Refusal("p.csv", "prompt\n\"a\" b\n"), HasSubstr("p.csv:2: text behind a closing quote"));
  EXPECT_THAT(Refusal("p.csv", "id,prompt\n1,\n"), HasSubstr("p.csv:2: the prompt is empty"));
}

TEST_F(PromptFileTest, SaysWhatItCannotRead) {
  EXPECT_THAT(Refusal("p.txt", "ok\nbad \xff\n"), HasSubstr("p.txt:2: not UTF-8"));
  EXPECT_THAT(Refusal("p.txt", "\n \n"), HasSubstr("no prompts here"));
  EXPECT_THAT(Refusal("p.tsv", "a"), HasSubstr("known are .txt, .jsonl and .csv"));
}

TEST(BankJob, RefusesToReplaceABankWhosePromptsItHasNot) {
  const TempFolder folder;
  BankJobOptions options;
  options.out = folder / "bank.safetensors";
  options.prompts = {"a cat", "a dog"};
  options.negative = "blurred";
  RequireNothingLost(options);  // no bank yet
  WriteWordPromptBank(options.out, {"a cat"}, "blurred", 4);
  RequireNothingLost(options);  // one prompt more
  options.prompts = {"a dog"};
  EXPECT_THAT(ErrorOf([&] { RequireNothingLost(options); }),
              AllOf(HasSubstr("has 1 of its 1 prompts that the new one would not have, such as \"a cat\""),
                    HasSubstr("--force")));
  options.prompts = {"a cat"};
  options.negative = "";
  EXPECT_THAT(ErrorOf([&] { RequireNothingLost(options); }), HasSubstr("another negative prompt"));
}

}  // namespace
}  // namespace sgmd
