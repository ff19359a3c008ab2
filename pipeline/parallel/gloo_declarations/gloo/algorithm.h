// Included by c10d's header and not used by what it declares; see context.h.
#pragma once
