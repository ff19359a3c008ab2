#include "pipeline/models/role_configs.h"

#include "common/error/error.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {

RoleConfigs::One RoleConfigs::OneOf(const Experiment& e, Role role) {
  const std::vector<RoleExpert> experts = ExpertsOf(e, role);
  One one{WanConfig::FromFile(FindModelConfig(experts.front().expert.model)), {0, 0, 0}};
  for (const auto& [expert, held] : experts) {
    const std::filesystem::path file = FindModelConfig(expert.model);
    if (WanConfig::FromFile(file) != one.config)
      throw Error("the two experts have other sizes than each other", file.string());
    one.transformers.all += 1;
    one.transformers.held += held == Held::kNot ? 0 : 1;
    one.transformers.trained += held == Held::kTrained ? 1 : 0;
  }
  return one;
}

RoleConfigs::RoleConfigs(const Experiment& e)
    : teacher_(OneOf(e, Role::kTeacher)),
      generator_(OneOf(e, Role::kGenerator)),
      fake_score_(OneOf(e, Role::kFakeScore)) {}

const RoleConfigs::One& RoleConfigs::At(Role role) const {
  if (role == Role::kGenerator) return generator_;
  return role == Role::kFakeScore ? fake_score_ : teacher_;
}

double ForwardCost(const Experiment& e, Role role) {
  if (ModelOf(e, role) == e.model.teacher) return 1;
  const auto flops = [&](const WanConfig& config) {
    return ForwardFlopsOf(config, TokenCount(config, e.data.latent)).total();
  };
  const RoleConfigs configs(e);
  return flops(configs.Of(role)) / flops(configs.Of(Role::kTeacher));
}

std::string WhyNotBeside(const WanConfig& teacher, const WanConfig& config) {
  if (config.out_dim != teacher.out_dim) {
    return StrCat("it has latents of ", config.out_dim, " channels and the teacher of ", teacher.out_dim,
                  ": they are of different VAEs");
  }
  if (config.text_dim != teacher.text_dim || config.text_len != teacher.text_len) {
    return StrCat("it reads prompts of ", config.text_len, " x ", config.text_dim, " and the teacher of ",
                  teacher.text_len, " x ", teacher.text_dim, ": they are of different text encoders");
  }
  const auto frame = [](const WanConfig& c) {
    if (!c.takes_image()) return std::string("no first frame");
    return StrCat("a first frame with ", c.takes_clip() ? StrCat("CLIP tokens of ", c.image_dim) : "no CLIP tokens");
  };
  if (frame(config) != frame(teacher)) return StrCat("it takes ", frame(config), ", and the teacher ", frame(teacher));
  return "";
}

}  // namespace sgmd
