#include "pipeline/text/prompt_cleaning.h"

#include <charconv>
#include <map>
#include <sstream>

#include "pipeline/text/utf8.h"

namespace sgmd {
namespace {

// The names of HTML 4. U+00A0 to U+00FF in order; HTML 5 reads these, and the ten of ASCII, without a semicolon too.
constexpr char kLatin1Names[] =
    "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute "
    "micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig "
    "Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash "
    "Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute "
    "ecirc euml igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc "
    "uuml yacute thorn yuml ";
// Name and hexadecimal code point in turn; U+2329 and U+232A are U+27E8 and U+27E9 in HTML 5.
constexpr char kOtherNames[] =
    "apos 27 OElig 152 oelig 153 Scaron 160 scaron 161 Yuml 178 fnof 192 circ 2c6 tilde 2dc Alpha 391 Beta 392 Gamma "
    "393 Delta 394 Epsilon 395 Zeta 396 Eta 397 Theta 398 Iota 399 Kappa 39a Lambda 39b Mu 39c Nu 39d Xi 39e Omicron "
    "39f Pi 3a0 Rho 3a1 Sigma 3a3 Tau 3a4 Upsilon 3a5 Phi 3a6 Chi 3a7 Psi 3a8 Omega 3a9 alpha 3b1 beta 3b2 gamma 3b3 "
    "delta 3b4 epsilon 3b5 zeta 3b6 eta 3b7 theta 3b8 iota 3b9 kappa 3ba lambda 3bb mu 3bc nu 3bd xi 3be omicron 3bf "
    "pi 3c0 rho 3c1 sigmaf 3c2 sigma 3c3 tau 3c4 upsilon 3c5 phi 3c6 chi 3c7 psi 3c8 omega 3c9 thetasym 3d1 upsih 3d2 "
    "piv 3d6 ensp 2002 emsp 2003 thinsp 2009 zwnj 200c zwj 200d lrm 200e rlm 200f ndash 2013 mdash 2014 lsquo 2018 "
    "rsquo 2019 sbquo 201a ldquo 201c rdquo 201d bdquo 201e dagger 2020 Dagger 2021 bull 2022 hellip 2026 permil 2030 "
    "prime 2032 Prime 2033 lsaquo 2039 rsaquo 203a oline 203e frasl 2044 euro 20ac image 2111 weierp 2118 real 211c "
    "trade 2122 alefsym 2135 larr 2190 uarr 2191 rarr 2192 darr 2193 harr 2194 crarr 21b5 lArr 21d0 uArr 21d1 rArr "
    "21d2 dArr 21d3 hArr 21d4 forall 2200 part 2202 exist 2203 empty 2205 nabla 2207 isin 2208 notin 2209 ni 220b "
    "prod 220f sum 2211 minus 2212 lowast 2217 radic 221a prop 221d infin 221e ang 2220 and 2227 or 2228 cap 2229 cup "
    "222a int 222b there4 2234 sim 223c cong 2245 asymp 2248 ne 2260 equiv 2261 le 2264 ge 2265 sub 2282 sup 2283 "
    "nsub 2284 sube 2286 supe 2287 oplus 2295 otimes 2297 perp 22a5 sdot 22c5 lceil 2308 rceil 2309 lfloor 230a "
    "rfloor 230b lang 27e8 rang 27e9 loz 25ca spades 2660 clubs 2663 hearts 2665 diams 2666 ";
// What numbers from 128 to 159 meant in Windows-1252; 0 where it has nothing.
constexpr char16_t kWindows1252[32] = {
    0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D, 0,
    0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178};

struct Names {
  std::map<std::string, char32_t, std::less<>> bare, closed;  // closed: only with a semicolon; neither has it
};

Names ReadNames() {
  Names names;
  names.bare = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"AMP", '&'}, {"LT", '<'}, {"GT", '>'},
                {"QUOT", '"'}, {"COPY", 0xA9}, {"REG", 0xAE}};
  std::istringstream latin1(kLatin1Names), others(kOtherNames);
  char32_t next = 0xA0;
  for (std::string name; latin1 >> name;) names.bare[name] = next++;
  unsigned value = 0;
  for (std::string name; others >> name >> std::hex >> value;) names.closed[name] = value;
  return names;
}

bool IsNonCharacter(char32_t c) {
  const bool control = (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || (c >= 0x7F && c <= 0x9F);
  return control || (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
}

// "#160" or "#xA0", without "&" and ";". False when it is no number.
bool AppendNumeric(std::string_view reference, std::string* out) {
  const bool hexadecimal = reference.size() > 1 && (reference[1] == 'x' || reference[1] == 'X');
  const std::string_view digits = reference.substr(hexadecimal ? 2 : 1);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
  if (digits.empty() || end != digits.data() + digits.size()) return false;
  if (value >= 0x80 && value <= 0x9F) {
    const char16_t meant = kWindows1252[value - 0x80];
    AppendUtf8(meant != 0 ? meant : static_cast<char32_t>(value), out);
  } else if (error != std::errc() || value == 0 || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    AppendUtf8(0xFFFD, out);
  } else if (value == 0x0D || !IsNonCharacter(static_cast<char32_t>(value))) {
    AppendUtf8(static_cast<char32_t>(value), out);
  }
  return true;
}

// `name` without "&"; with `semicolon` it was followed by one. Returns how much of name and semicolon was read, 0 for nothing.
std::size_t AppendNamed(std::string_view name, bool semicolon, std::string* out) {
  static const Names names = ReadNames();
  if (semicolon) {
    for (const auto* table : {&names.bare, &names.closed}) {
      if (const auto it = table->find(name); it != table->end()) {
        AppendUtf8(it->second, out);
        return name.size() + 1;
      }
    }
  }
  for (std::size_t size = name.size(); size > 1; --size) {  // "&copyright" is read as "&copy" and "right"
    if (const auto it = names.bare.find(name.substr(0, size)); it != names.bare.end()) {
      AppendUtf8(it->second, out);
      return size;
    }
  }
  return 0;
}

std::size_t NumericEnd(std::string_view text, std::size_t hash) {
  const bool hexadecimal = hash + 1 < text.size() && (text[hash + 1] == 'x' || text[hash + 1] == 'X');
  const std::string_view allowed = hexadecimal ? "0123456789abcdefABCDEF" : "0123456789";
  return std::min(text.size(), text.find_first_not_of(allowed, hash + (hexadecimal ? 2 : 1)));
}

// The reference that may begin at text[at] == '&'. Returns its size, 0 when it is none.
std::size_t AppendReference(std::string_view text, std::size_t at, std::string* out) {
  const std::size_t begin = at + 1;
  if (begin < text.size() && text[begin] == '#') {
    const std::size_t end = NumericEnd(text, begin);
    if (!AppendNumeric(text.substr(begin, end - begin), out)) return 0;
    return end - at + (end < text.size() && text[end] == ';' ? 1 : 0);
  }
  const std::size_t end = std::min(text.size(), text.find_first_of("\t\n\f <&#;", begin));
  const std::size_t read = AppendNamed(text.substr(begin, std::min<std::size_t>(end - begin, 32)),
                                       end < text.size() && text[end] == ';' && end - begin <= 32, out);
  return read == 0 ? 0 : read + 1;
}

bool IsSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsDroppedControl(char32_t c) {
  return c <= 0x8 || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
         (c >= 0xFFF9 && c <= 0xFFFC);
}

// The letters of a typographical ligature or digraph; null for anything else.
const char* Ligature(char32_t c) {
  constexpr const char* kTypographical[] = {"ff", "fi", "fl", "ffi", "ffl", "ſt", "st"};                     // from U+FB00
  constexpr const char* kDigraphs[] = {"DŽ", "Dž", "dž", "LJ", "Lj", "lj", "NJ", "Nj", "nj"};                // from U+01C4
  if (c >= 0xFB00 && c <= 0xFB06) return kTypographical[c - 0xFB00];
  if (c >= 0x1C4 && c <= 0x1CC) return kDigraphs[c - 0x1C4];
  switch (c) {
    case 0x132: return "IJ";
    case 0x133: return "ij";
    case 0x149: return "'n";
    case 0x1F1: return "DZ";
    case 0x1F2: return "Dz";
    case 0x1F3: return "dz";
    default: return nullptr;
  }
}

std::string StraightenTypography(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto [c, size] = DecodeUtf8(text, at);
    if (c >= 0x201C && c <= 0x201F) {
      out += '"';
    } else if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) {
      out += '\'';
    } else if (c >= 0xFF01 && c <= 0xFF5E) {
      out += static_cast<char>(c - 0xFEE0);
    } else if (const char* letters = Ligature(c)) {
      out += letters;
    } else if (!IsDroppedControl(c)) {
      out += text.substr(at, size);
    }
    at += size;
  }
  return out;
}

}  // namespace

std::string UnescapeHtml(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = text[at] == '&' ? AppendReference(text, at, &out) : 0;
    if (size == 0) out += text[at];
    at += std::max<std::size_t>(size, 1);
  }
  return out;
}

std::string CollapseWhitespace(std::string_view text) {
  std::string out;
  bool pending = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto [c, size] = DecodeUtf8(text, at);
    if (IsSpace(c)) {
      pending = !out.empty();
    } else {
      if (pending) out += ' ';
      pending = false;
      out += text.substr(at, size);
    }
    at += size;
  }
  return out;
}

std::string CleanPrompt(std::string_view text) {
  // ftfy reads references itself, before typography, unless the text looks like markup.
  const bool markup = text.find('<') != std::string_view::npos;
  const std::string straight = StraightenTypography(markup ? std::string(text) : UnescapeHtml(text));
  return CollapseWhitespace(UnescapeHtml(UnescapeHtml(straight)));
}

std::size_t FirstInvalidUtf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto [c, size] = DecodeUtf8(text, at);
    if (c == CodePoint::kNotUtf8) return at;
    at += size;
  }
  return std::string_view::npos;
}

}  // namespace sgmd
