// Prompts as Wan's own code cleans them before they are tokenised (wan_facts §2 "Cleaning").
#pragma once

#include <string>
#include <string_view>

namespace sgmd {

/// Named and numeric HTML references become characters, as HTML 5 reads them: "&lt;b&gt;" -> "<b>", "&#x4e2d;" -> "中", with
/// Windows-1252 for 128 to 159, U+FFFD for what is no character, and without ";" only for the names that allow it. Knows the 252
/// names of HTML 4 and "&apos;"; others (HTML 5 has two thousand more) stay as they are.
std::string UnescapeHtml(std::string_view text);

/// Runs of Unicode white space become one space, those at the ends nothing.
std::string CollapseWhitespace(std::string_view text);

/// The whole cleaning: typography, references twice, white space. A pure function, and the identity on plain ASCII and on CJK
/// characters. Typography is what ftfy (which the reference runs first) does to ordinary text: curly quotes become straight,
/// full-width forms ASCII (so "，" becomes ","), Latin ligatures letters, line ends "\n", and control characters go. The rest
/// of ftfy is not done: repair of wrongly decoded text, half-width katakana and hangul, normalisation to NFC, terminal
/// escapes, all-caps references. Text that needs those must be repaired before it comes here.
/// `text` is UTF-8; bytes that are not pass unchanged.
std::string CleanPrompt(std::string_view text);

/// Byte offset of the first byte that is not valid UTF-8 (overlong forms, surrogates and beyond U+10FFFF are not), or npos.
std::size_t FirstInvalidUtf8(std::string_view text);

}  // namespace sgmd
