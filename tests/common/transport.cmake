sgmd_test(transport_test
  LABEL unit
  TIMEOUT 60
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/envelope_test.cc ${CMAKE_CURRENT_LIST_DIR}/transport_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/heartbeat_test.cc
  LINK sgmd_transport)
