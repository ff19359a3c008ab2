// The README.md beside an exported student: what it is, how it was made, and the settings it is to be run with.
#pragma once

#include <string>
#include <vector>

#include "nodes/exporter/card_settings.h"
#include "nodes/exporter/student_schedule.h"
#include "nodes/exporter/student_source.h"

namespace sgmd {

/// In every card: by it an export's README.md is told from others.
inline constexpr char kCardMark[] = "<!-- written by sgmd-export -->";

/// Markdown, with a front matter for Hugging Face: base model and licence where the sizes are those of a published Wan
/// model. Other tools are named only if they can run a model of these sizes. `name`: the folder's or file's name.
/// `dtype`: as written. `missing`: parts of a pipeline that the folder does not have.
std::string ModelCard(const StudentSource& student, ExportForm form, const std::string& name, DType dtype,
                      const std::vector<std::string>& missing);

}  // namespace sgmd
