#include "nodes/encoder/prompt_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/encoder/bank_job.h"
#include "pipeline/data/prompt_bank.h"
#include "tests/support/error_of.h"
#include "tests/support/image_run.h"
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

TEST_F(PromptFileTest, KeepsATextThatComesAgainWherePicturesTellThemApart) {
  WriteFileAtomically(folder_ / "p.txt", "a cat\na dog\na cat\n");
  const PromptFile file = PromptFile::Read(folder_ / "p.txt", /*keep_duplicates=*/true);
  EXPECT_THAT(file.prompts, ElementsAre("a cat", "a dog", "a cat"));
  EXPECT_EQ(file.duplicates, 0);
}

TEST(PictureList, NamesAPictureForEachPromptRelativeToItself) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "in");
  WriteFileAtomically(folder / "in/a.png", "a");
  WriteFileAtomically(folder / "in/b.png", "a");
  WriteFileAtomically(folder / "in/list.txt", "a.png\r\n\nb.png\na.png\n");
  const std::vector<BankPicture> pictures = ReadPictureList(folder / "in/list.txt", 3);
  ASSERT_EQ(pictures.size(), 3U);
  EXPECT_EQ(pictures[0].file.filename(), "a.png");
  EXPECT_EQ(pictures[0].name, DigestText("a").Hex());
  EXPECT_EQ(pictures[1].name, pictures[0].name) << "named by what is in it";
  EXPECT_THAT(ErrorOf([&] { ReadPictureList(folder / "in/list.txt", 2); }), HasSubstr("3 pictures for 2 prompts"));
  WriteFileAtomically(folder / "in/list.txt", "a.png\nc.png\n");
  EXPECT_THAT(ErrorOf([&] { ReadPictureList(folder / "in/list.txt", 2); }),
              AllOf(HasSubstr("no such picture: c.png"), HasSubstr("list.txt:2")));
}

TEST(BankJob, RefusesToReplaceABankWhosePromptsHadOtherPictures) {
  const TempFolder folder;
  BankJobOptions options;
  options.out = folder / "bank.safetensors";
  options.negative = "blurred";
  WriteWordPromptBank(options.out, {"a cat", "a dog"}, "blurred", 4);
  AddFirstFrames(options.out, {{2, 2, 2, 2}, 0});
  const PromptBank bank = PromptBank::Open(options.out);
  options.prompts = bank.texts();
  for (const std::string& image : bank.images()) options.pictures.push_back({"", image});
  RequireNothingLost(options);
  options.pictures.front().name = DigestText("another picture").Hex();
  EXPECT_THAT(ErrorOf([&] { RequireNothingLost(options); }), HasSubstr("1 of its 4 prompts"));
  options.pictures.clear();
  EXPECT_THAT(ErrorOf([&] { RequireNothingLost(options); }), HasSubstr("4 of its 4 prompts"));
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
