#include "common/storage/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

void Commit(const CheckpointStore& store, std::int64_t step, const std::string& content, std::int64_t keep = 10) {
  WriteFileAtomically(store.Stage(step) / "state", content);
  store.Commit(step, {{"state", DigestText(content)}}, keep);
}

TEST(CheckpointStore, FindsTheNewestWhoseDigestsVerify) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  EXPECT_FALSE(store.Newest().has_value());
  Commit(store, 9, "nine");
  Commit(store, 10, "ten");
  EXPECT_EQ(store.Newest()->step, 10);
  WriteFileAtomically(store.Newest()->folder / "state", "tampered");
  EXPECT_EQ(store.Newest()->step, 9);
}

TEST(CheckpointStore, ListsThoseThatVerifyOldestFirst) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (const int step : {9, 10, 11}) Commit(store, step, "x");
  WriteFileAtomically(store.All()[1].folder / "state", "tampered");
  ASSERT_EQ(store.All().size(), 2U);
  EXPECT_EQ(store.All()[0].step, 9);
  EXPECT_EQ(store.All()[1].step, 11);
}

TEST(CheckpointStore, IgnoresWhatWasNotCommitted) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  Commit(store, 1, "one");
  WriteFileAtomically(store.Stage(2) / "state", "half");
  EXPECT_EQ(store.Newest()->step, 1);
}

TEST(CheckpointStore, KeepsTheNewest) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (int step = 1; step <= 4; ++step) Commit(store, step, "x", 2);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
  EXPECT_EQ(store.Newest()->step, 4);
}

TEST(CheckpointStore, RefusesAnotherExperiment) {
  TempFolder folder;
  Commit(CheckpointStore(folder.path(), {1, 2}), 1, "x");
  EXPECT_THROW(CheckpointStore(folder.path(), {3, 4}).Newest(), Error);
}

// What may be wrong with the newest checkpoint: the one before it serves.
class DamageOf : public testing::TestWithParam<std::pair<const char*, void (*)(const std::filesystem::path&)>> {};

TEST_P(DamageOf, TheNewestCheckpointCostsThatOneAlone) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (const int step : {1, 2}) Commit(store, step, "a state");
  GetParam().second(folder / "step-00000002");
  const auto newest = store.Newest();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 1);
  EXPECT_TRUE(store.Any());
  GetParam().second(folder / "step-00000001");
  EXPECT_FALSE(store.Newest());
  EXPECT_TRUE(store.Any()) << "a start must not take it for a new run";
}

using std::filesystem::path;
INSTANTIATE_TEST_SUITE_P(
    CheckpointStore, DamageOf,
    testing::Values(
        std::pair{"AMissingManifest", +[](const path& f) { std::filesystem::remove(f / "MANIFEST.json"); }},
        std::pair{"AnEmptyManifest", +[](const path& f) { WriteFileAtomically(f / "MANIFEST.json", ""); }},
        std::pair{"ATruncatedManifest", +[](const path& f) { WriteFileAtomically(f / "MANIFEST.json", "{\"step\":"); }},
        std::pair{"AManifestThatIsAFolder",
                  +[](const path& f) {
                    std::filesystem::remove(f / "MANIFEST.json");
                    std::filesystem::create_directory(f / "MANIFEST.json");
                  }},
        std::pair{"AManifestWithBadDigests",
                  +[](const path& f) {
                    WriteFileAtomically(f / "MANIFEST.json",
                                        R"({"format": 2, "step": 2, "experiment": "zz", "files": {"state": 7}})");
                  }},
        std::pair{"AManifestThatIsAList", +[](const path& f) { WriteFileAtomically(f / "MANIFEST.json", "[1, 2]"); }},
        std::pair{"AMissingFile", +[](const path& f) { std::filesystem::remove(f / "state"); }},
        std::pair{"ATruncatedFile", +[](const path& f) { std::filesystem::resize_file(f / "state", 3); }},
        std::pair{"AFileThatIsAFolder",
                  +[](const path& f) {
                    std::filesystem::remove(f / "state");
                    std::filesystem::create_directory(f / "state");
                  }},
        std::pair{"AnEmptyFolder",
                  +[](const path& f) {
                    std::filesystem::remove_all(f);
                    std::filesystem::create_directory(f);
                  }},
        std::pair{"AFileInPlaceOfTheFolder",
                  +[](const path& f) {
                    std::filesystem::remove_all(f);
                    WriteFileAtomically(f, "");
                  }}),
    [](const auto& info) { return info.param.first; });

TEST(CheckpointStore, KeepsWhatIsPinned) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (int step = 1; step <= 4; ++step) {
    WriteFileAtomically(store.Stage(step) / "state", "x");
    store.Commit(step, {{"state", DigestText("x")}}, 1, /*pinned=*/2);
  }
  ASSERT_EQ(store.All().size(), 2U);
  EXPECT_EQ(store.All()[0].step, 2);
  EXPECT_EQ(store.All()[1].step, 4);
}

TEST(CheckpointStore, RefusesToGoOnFromAnEarlierFormatAndSaysTheWayOut) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  Commit(store, 1, "x");
  WriteFileAtomically(folder / "step-00000001/MANIFEST.json",
                      StrCat(R"({"step": 1, "experiment": ")", Digest{1, 2}.Hex(), R"(", "files": {}})"));
  EXPECT_THAT(ErrorOf([&] { store.Newest(); }), testing::HasSubstr("use another run folder"));
  EXPECT_EQ(CheckpointManifest::Read(folder / "step-00000001").format, 1) << "its weights can still be read";
}

TEST(CheckpointStore, ARoleVerifiesItsOwnFilesAlone) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  std::map<std::string, Digest> files;
  for (const char* role : {"generator", "fake_score"}) {
    const std::string name = StateFileName(role, kModelState);
    WriteFileAtomically(store.Stage(4) / name, role);
    files[name] = DigestText(role);
  }
  store.Commit(4, files, 10);
  WriteFileAtomically(folder / "step-00000004" / StateFileName("fake_score", kModelState), "tampered");
  EXPECT_EQ(store.At(4, "generator").FilesOf("generator", kModelState),
            std::vector{folder / "step-00000004/generator.model.safetensors"});
  EXPECT_THAT(ErrorOf([&] { store.At(4, "fake_score"); }), testing::HasSubstr("does not match its digest"));
  EXPECT_THROW(store.At(5, "generator"), Error);
}

TEST(CheckpointLayout, FindsTheFilesOfAllRanks) {
  CheckpointManifest manifest;
  manifest.files[StateFileName("generator", kModelState, 0, 2)] = {};
  EXPECT_THAT(ErrorOf([&] { manifest.FilesOf("generator", kModelState, "c"); }),
              testing::HasSubstr("generator.model.1-of-2.safetensors is missing"));
  manifest.files[StateFileName("generator", kModelState, 1, 2)] = {};
  EXPECT_EQ(manifest.FilesOf("generator", kModelState, "c").size(), 2U);
  EXPECT_TRUE(manifest.FilesOf("generator", kAverageState, "c").empty());
  EXPECT_EQ(StepOfFolderName("step-00000040"), 40);
  EXPECT_FALSE(StepOfFolderName(".tmp-step-00000040").has_value());
  EXPECT_FALSE(StepOfFolderName("step-40").has_value());
}

}  // namespace
}  // namespace sgmd
