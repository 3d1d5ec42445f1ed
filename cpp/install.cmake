# Installs the library for find_package(latchwork) and for pkg-config.
include(CMakePackageConfigHelpers)

set(installed latchwork)
if(NOT SKBUILD)
  list(APPEND installed latchwork_core)
endif()
install(TARGETS ${installed} EXPORT latchwork LIBRARY DESTINATION "${install_library}" RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}"
        ARCHIVE DESTINATION "${install_library}")
install(DIRECTORY include/ DESTINATION "${install_include}" FILES_MATCHING PATTERN "*.hpp")
install(EXPORT latchwork NAMESPACE latchwork:: FILE latchworkTargets.cmake DESTINATION "${install_cmake}")
configure_package_config_file(latchworkConfig.cmake.in generated/latchworkConfig.cmake
                              INSTALL_DESTINATION "${install_cmake}" NO_SET_AND_CHECK_MACRO)
# Before version 1, a new minor version may change the interface.
write_basic_package_version_file(generated/latchworkConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/generated/latchworkConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/generated/latchworkConfigVersion.cmake"
        DESTINATION "${install_cmake}")
if(NOT SKBUILD)
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")  # so that the folder may be moved
  configure_file(latchwork.pc.in generated/latchwork.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/generated/latchwork.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endif()
