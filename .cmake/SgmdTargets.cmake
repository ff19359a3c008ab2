# The three kinds of target in this tree. Each takes: SOURCES files..., LINK libraries...
#
# Reading headers is much of the time of a build, and of files with ATen most, so that targets use one of four sets of them, precompiled. A folder says
# by SGMD_HEADERS which target's set its libraries and programs use: sgmd_error (the standard library) or sgmd_pipeline (ATen too).
# Tests use signals_test's, or with LibTorch pipeline_test's.

# sgmd_share_headers(name owner): the target uses the owner's precompiled headers, where it is not the owner itself.
function(sgmd_share_headers name owner)
  if(owner AND NOT name STREQUAL owner)
    target_precompile_headers(${name} REUSE_FROM ${owner})
  endif()
endfunction()

# sgmd_library(name SOURCES a.cc LINK lib): a static library; headers are included from the repository root.
function(sgmd_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} Threads::Threads)
  sgmd_share_headers(${name} "${SGMD_HEADERS}")
endfunction()

# sgmd_program(name SOURCES main.cc LINK lib): an executable in bin/, installed with the relocatable tree.
function(sgmd_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  sgmd_share_headers(${name} "${SGMD_HEADERS}")
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;$ORIGIN/../torch/lib")
  install(TARGETS ${name} RUNTIME_DEPENDENCY_SET sgmd_dependencies RUNTIME DESTINATION bin)
endfunction()

# sgmd_test(name LABEL unit|torch|process|device TIMEOUT seconds SOURCES a_test.cc LINK lib [UNDER command] [ENVIRONMENT name=value]):
# a GoogleTest program whose cases ctest runs one by one, each under the time limit and, where it is given, started by the command
# and with the variable.
function(sgmd_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT;UNDER;ENVIRONMENT" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock_main)
  target_compile_definitions(${name} PRIVATE SGMD_BIN_DIR="${CMAKE_BINARY_DIR}/bin" SGMD_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(ARG_LABEL STREQUAL unit)
    sgmd_share_headers(${name} signals_test)
  else()
    sgmd_share_headers(${name} pipeline_test)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(ARG_UNDER)
    set_target_properties(${name} PROPERTIES CROSSCOMPILING_EMULATOR ${ARG_UNDER})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "${ARG_ENVIRONMENT}")
endfunction()
