# libgraft: every layer but cli, one public header, one pkg-config file, one CMake package. Shared only:
# the layers' names are nobody else's business, and an archive could not hide them.
include(CMakePackageConfigHelpers)
get_property(layers GLOBAL PROPERTY GRAFT_LAYERS)
add_library(graft_lib SHARED ${PROJECT_SOURCE_DIR}/cmake/empty.c)
set_target_properties(graft_lib PROPERTIES OUTPUT_NAME graft EXPORT_NAME graft VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR})
target_link_libraries(graft_lib PRIVATE -Wl,--whole-archive ${layers} -Wl,--no-whole-archive)
# Hidden visibility does the most; compilers make names of their own, such as those of critical sections.
target_link_options(graft_lib PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/graft.map)
if(NOT GRAFT_SANITIZE AND NOT GRAFT_FUZZ) # clang leaves the sanitizers' names to the program
    target_link_options(graft_lib PRIVATE -Wl,--no-undefined)
endif()
set_property(TARGET graft_lib PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/graft.map)
target_include_directories(graft_lib INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/graftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS graft_lib EXPORT graft LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT graft NAMESPACE graft:: FILE graftConfig.cmake DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/graftConfigVersion.cmake DESTINATION ${package})
install(FILES ${PROJECT_SOURCE_DIR}/include/graft.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# The prefix is known when it is installed: cmake --install --prefix may name another.
install(CODE "set(version ${PROJECT_VERSION})
set(description \"${PROJECT_DESCRIPTION}\")
set(libdir ${CMAKE_INSTALL_LIBDIR})
set(includedir ${CMAKE_INSTALL_INCLUDEDIR})
configure_file(${PROJECT_SOURCE_DIR}/cmake/graft.pc.in ${PROJECT_BINARY_DIR}/graft.pc @ONLY)")
install(FILES ${PROJECT_BINARY_DIR}/graft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
