#include "pipeline/models/role_configs.h"

#include "common/error/error.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

WanConfig ConfigOf(const Experiment& e, Role role) { return WanConfig::FromFile(FindModelConfig(ModelOf(e, role))); }

}  // namespace

RoleConfigs::RoleConfigs(const Experiment& e)
    : teacher_(ConfigOf(e, Role::kTeacher)),
      generator_(ConfigOf(e, Role::kGenerator)),
      fake_score_(ConfigOf(e, Role::kFakeScore)) {}

const WanConfig& RoleConfigs::Of(Role role) const {
  if (role == Role::kGenerator) return generator_;
  return role == Role::kFakeScore ? fake_score_ : teacher_;
}

double ForwardCost(const Experiment& e, Role role) {
  if (ModelOf(e, role) == e.model.teacher) return 1;
  const auto flops = [&](const WanConfig& config) {
    return ForwardFlopsOf(config, TokenCount(config, e.data.latent)).total();
  };
  return flops(ConfigOf(e, role)) / flops(ConfigOf(e, Role::kTeacher));
}

std::string WhyNotBeside(const WanConfig& teacher, const WanConfig& config) {
  if (config.in_dim != teacher.in_dim || config.out_dim != teacher.out_dim) {
    return StrCat("it has latents of ", config.in_dim, " channels and the teacher of ", teacher.in_dim,
                  ": they are of different VAEs");
  }
  if (config.text_dim != teacher.text_dim || config.text_len != teacher.text_len) {
    return StrCat("it reads prompts of ", config.text_len, " x ", config.text_dim, " and the teacher of ",
                  teacher.text_len, " x ", teacher.text_dim, ": they are of different text encoders");
  }
  return "";
}

}  // namespace sgmd
